"""The colours of every picture, by what they stand for: Okabe and Ito's, made for colour-blind readers too.

Their page: jfly.uni-koeln.de/color. Not all go together: orange is kept from vermillion and yellow, green from grey;
their purple is left out. `tests/test_colours.py` simulates both kinds of red-green blindness on what one picture shows.
"""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION = "#F0E442", "#0072B2", "#D55E00"
DARK, GREY, LIGHT, PALE, MARKED = "#555555", "#999999", "#c4c4c4", "#f4f4f4", "#fff3b0"  # the last: behind a text

RIGHT, WRONG, NEITHER = BLUE, VERMILLION, LIGHT
WITHOUT, WITH = BLUE, ORANGE  # rollouts without and with examples; rows trained on and held out; before and after
SERIES = (BLUE, ORANGE, GREEN, SKY, BLACK)  # curves of one picture; beyond five, dashes tell them apart
FILLS = (BLUE, VERMILLION, SKY, GREEN, YELLOW, DARK)  # parts of a bar
