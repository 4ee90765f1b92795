"""The comparison sheet: what is where, for small and large models and for many images."""

import numpy as np
import pytest

from wagi_rt.commands.compare import Row, cell_size, draw_sheet, make_row


def row(size: int, index: int = 0, name: str = "a.png") -> Row:
    """Three flat pictures whose colours tell image and column."""
    first, second, third = (
        np.full((size, size, 3), (index * 10, column * 100, 7), np.uint8) for column in range(3)
    )
    return make_row((first, second, third), (name, "L2 0.1", "L2 0.01"))


@pytest.mark.parametrize(
    ("size", "cell"), [(32, 192), (64, 192), (128, 256), (256, 256), (512, 512), (1024, 512)]
)
def test_cells_are_large_enough_to_see_and_small_enough_to_open(size, cell):
    assert cell_size(size) == cell
    assert row(size).images[0].shape == (cell, cell, 3)


def centres(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Where the pixels of this colour lie on average: (row, column)."""
    return tuple(np.argwhere((sheet == colour).all(axis=2)).mean(axis=0))


@pytest.mark.parametrize("count", [1, 8, 9, 20])
def test_every_picture_is_on_the_sheet_in_order(count):
    sheet = draw_sheet([row(64, index) for index in range(count)])[::4, ::4]
    places = [
        [centres(sheet, (index * 10, column * 100, 7)) for column in range(3)] for index in range(count)
    ]
    for columns in places:
        assert len({round(y) for y, _ in columns}) == 1
        assert columns[0][1] < columns[1][1] < columns[2][1]
    blocks = -(-count // 8)
    assert len({round(columns[0][1]) for columns in places}) == blocks
    assert 4 * sheet.shape[0] < 8 * 230 + 50


def test_captions_and_labels_are_drawn_and_long_names_are_shortened():
    short, long = (draw_sheet([row(64, name=name)]) for name in ("a.png", "x" * 300 + ".png"))
    assert short.shape == long.shape
    assert (short[:28] < 100).any() and (short[-24:] < 150).any()
    label = long[-24:, 6 + 192 : 6 + 192 + 6]  # the gap between the first two cells
    assert (label == 255).all()


def test_names_in_any_script_do_not_fail():
    assert draw_sheet([row(64, name="\u5199\u771f \udce9.png")]).ndim == 3
