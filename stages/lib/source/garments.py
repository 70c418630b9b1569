"""Draw FashionMNIST's ten classes, light on black as the real images, each cut, patterned, placed and lit at random.

They vary so much that a linear model does worse than a convolutional one. y points downwards; the numbers are in a
garment's own units, as `Sheet` says.
"""

from collections.abc import Callable

import numpy as np

from stages.lib.source.canvas import Array, Points, Sheet, ellipse, polygon, stroke

# Shape suffixes: N pictures of one class, H x W pixels.


def _bodice(
    sheet: Sheet, *, chest: Array, waist: Array, hem: Array, length: Array, sleeve: Array, spread: Array, width: Array
) -> Array:
    """Draw what T-shirt, pullover, dress, coat and shirt share, two sleeves and a body; return the body's distance.

    Half widths of chest, waist and hem; y of the hem; length, spread (0 hangs down, 1 stands out), width of a sleeve.
    """
    shoulder = chest + 0.3
    out, down = _unit(spread, 1 - spread)  # the direction of the right sleeve
    end_x, end_y = shoulder + out * sleeve, -10.0 + down * sleeve
    cuff = width * 0.38
    sleeves = polygon(
        sheet.side_NHW,
        sheet.y_NHW,
        [
            (shoulder - 2, -11.0),
            (shoulder + down * 0.8, -10.6 - out * 0.5),
            (end_x + down * cuff, end_y - out * cuff),
            (end_x - down * cuff, end_y + out * cuff),
            (chest - 1, -8.5 + width),
        ],
    )
    sheet.sew(sleeves, 0.9)
    body = polygon(
        sheet.side_NHW,
        sheet.y_NHW,
        [
            (-4.0, -12.0),
            (2.6, -12.0),
            (shoulder, -10.6),
            (chest, -6.0),
            (waist, 0.0),
            (hem, length),
            (-4.0, length + 0.5),
        ],
    )
    sheet.sew(body)
    return body


def _unit(x: Array, y: Array) -> tuple[Array, Array]:
    length = np.sqrt(x * x + y * y)
    return x / length, y / length


def t_shirt(sheet: Sheet) -> None:
    """Draw short sleeves that stand out, a round neck, sometimes a print on the chest."""
    chest = sheet.between(6, 8)
    _bodice(
        sheet,
        chest=chest,
        waist=chest - sheet.between(-0.4, 0.8),
        hem=chest + sheet.between(-0.5, 1),
        length=sheet.between(8, 12.5),
        sleeve=sheet.between(4.5, 7),
        spread=sheet.between(0.4, 0.65),
        width=sheet.between(4, 6),
    )
    sheet.paint(ellipse(sheet.x_NHW, sheet.y_NHW + 12.3, sheet.between(2.4, 3.8), sheet.between(1.8, 3.4)), 0)
    wide, high = sheet.between(1.5, 4.2), sheet.between(1.2, 2.5)
    motif = polygon(sheet.side_NHW, sheet.y_NHW + 3, [(-4.0, -high), (wide, -high), (wide, high), (-4.0, high)])
    sheet.paint(motif, sheet.trim(), sheet.sometimes(0.4) * 0.8)


def trouser(sheet: Sheet) -> None:
    """Draw a waistband and two legs."""
    gap, foot, length = sheet.between(0.2, 2), sheet.between(2.2, 3.8), sheet.between(9.5, 13)
    waist = sheet.between(4, 5.8)
    fork = sheet.between(-6, -3)
    legs = polygon(
        sheet.side_NHW,
        sheet.y_NHW,
        [
            (-4.0, -12.6),
            (waist, -12.6),
            (waist + sheet.between(0, 1.2), -6.0),
            (gap + foot * 1.3, 2.0),
            (gap + foot, length),
            (gap, length),
            (0.1, fork),
            (-4.0, fork),
        ],
    )
    sheet.sew(legs)
    band = stroke(sheet.x_NHW, sheet.y_NHW, [(-8.0, -11.0), (8.0, -11.0)], 0.9)
    sheet.paint(np.maximum(band, legs), sheet.trim(), sheet.sometimes(0.7) * 0.7)


def pullover(sheet: Sheet) -> None:
    """Draw long sleeves, a round neck or a roll neck, ribbing at the hem."""
    chest, length = sheet.between(5.8, 7.6), sheet.between(7.5, 12)
    body = _bodice(
        sheet,
        chest=chest,
        waist=chest + sheet.between(-0.6, 0.8),
        hem=chest + sheet.between(-0.6, 1),
        length=length,
        sleeve=sheet.between(15, 20),
        spread=sheet.between(0.08, 0.28),
        width=sheet.between(4, 5.6),
    )
    rib = stroke(sheet.x_NHW, sheet.y_NHW, [(-12.0, length - 0.8), (12.0, length - 0.8)], 2.4)
    sheet.paint(np.maximum(rib, body), sheet.cloth(sheet.between(0.4, 0.7)))
    roll = sheet.sometimes(0.4)
    sheet.paint(ellipse(sheet.x_NHW, sheet.y_NHW + 12.3, sheet.between(2.2, 3.2), sheet.between(1.2, 2)), 0, 1 - roll)
    sheet.paint(stroke(sheet.x_NHW, sheet.y_NHW, [(-2.0, -12.2), (2.0, -12.2)], 2.6), sheet.cloth(0.7), roll)


def dress(sheet: Sheet) -> None:
    """Draw a narrow waist and a wide skirt; straps, or short sleeves."""
    waist = sheet.between(3, 5)
    _bodice(
        sheet,
        chest=waist + sheet.between(0.6, 1.8),
        waist=waist,
        hem=waist + sheet.between(1.5, 6),
        length=sheet.between(10.5, 13),
        sleeve=sheet.between(0.5, 6),
        spread=sheet.between(0.35, 0.65),
        width=sheet.between(2.8, 4),
    )
    sheet.paint(ellipse(sheet.x_NHW, sheet.y_NHW + 12.3, sheet.between(1.8, 2.8), sheet.between(2, 5)), 0)
    belt = stroke(sheet.x_NHW, sheet.y_NHW, [(-waist, 0.0), (waist, 0.0)], 1.3)
    sheet.paint(belt, sheet.trim(), sheet.sometimes(0.6) * 0.8)


def coat(sheet: Sheet) -> None:
    """Draw a long and wide body, long sleeves, an open front, and lapels."""
    chest = sheet.between(6, 7.6)
    _bodice(
        sheet,
        chest=chest,
        waist=chest + sheet.between(-1, 0.6),
        hem=chest + sheet.between(-0.2, 2),
        length=sheet.between(10.5, 13.2),
        sleeve=sheet.between(16, 20),
        spread=sheet.between(0.06, 0.24),
        width=sheet.between(4.4, 5.8),
    )
    opening = sheet.between(-6, 0)  # y where the lapels meet
    lapel = polygon(
        sheet.side_NHW, sheet.y_NHW, [(-4.0, -12.6), (1.8, -12.6), (4.2, -8.5), (0.4, opening), (-4.0, opening)]
    )
    sheet.paint(lapel, sheet.cloth(sheet.between(1.2, 1.7)))
    sheet.paint(polygon(sheet.side_NHW, sheet.y_NHW, [(-4.0, -14.0), (1.8, -14.0), (0.0, opening), (-4.0, opening)]), 0)
    sheet.paint(stroke(sheet.x_NHW, sheet.y_NHW, [(0.0, opening), (0.0, 16.0)], sheet.between(0.9, 1.8)), 0)


def shirt(sheet: Sheet) -> None:
    """Draw sleeves of any length, a collar, and buttons down the front."""
    chest, sleeve = sheet.between(5.6, 7.4), sheet.between(4.5, 18)
    body = _bodice(
        sheet,
        chest=chest,
        waist=chest - sheet.between(-0.2, 1.2),
        hem=chest + sheet.between(-0.5, 0.8),
        length=sheet.between(9, 12.8),
        sleeve=sleeve,
        spread=0.6 - sleeve * 0.025,
        width=sheet.between(3.8, 5.2),
    )
    front = stroke(sheet.x_NHW, sheet.y_NHW, [(0.0, -11.0), (0.0, 14.0)], 1.7)
    sheet.paint(np.maximum(front, body), np.maximum(sheet.cloth(1.5), 0.5))
    for y in (-7.0, -3.5, 0.0, 3.5, 7.0):
        sheet.paint(ellipse(sheet.x_NHW, sheet.y_NHW - y, 0.85, 0.85), 0)
    sheet.paint(polygon(sheet.side_NHW, sheet.y_NHW, [(-1.0, -13.0), (1.4, -13.0), (0.0, -10.2), (-1.0, -10.2)]), 0)
    collar = polygon(sheet.side_NHW, sheet.y_NHW, [(1.3, -13.2), (3.0, -12.2), (3.6, -9.4), (0.2, -10.2)])
    sheet.paint(collar, np.maximum(sheet.cloth(1.6), 0.5))


def sandal(sheet: Sheet) -> None:
    """Draw straps with gaps between them, on a sole that is flat, a wedge, or on a heel."""
    rise = sheet.between(0, 6)  # of the heel above the toes
    flat_NHW = sheet.y_NHW + rise * np.clip((sheet.x_NHW + 5) / 10, 0, 1)  # y as if the sole were flat
    ankle, front = sheet.between(-4.5, -2), sheet.between(1, 3.2)
    foot = polygon(
        sheet.x_NHW,
        flat_NHW,
        [
            (-9.8, 6.0),
            (-9.0, front + 1),
            (-5.0, front - 1.8),
            (1.0, ankle + 1.5),
            (4.5, ankle),
            (11.2, ankle - 0.6),
            (11.0, 6.0),
        ],
    )
    sheet.sew(foot)
    for x, chance in ((-6.4, 1.0), (-2.2, 0.8), (1.6, 0.6)):
        gap = stroke(sheet.x_NHW, flat_NHW, [(x - 1.2, -6.0), (x + 1.2, 5.6)], sheet.between(1.6, 2.6))
        sheet.paint(gap, 0, sheet.sometimes(chance))
    ankle_hole = polygon(
        sheet.x_NHW, flat_NHW, [(3.4, ankle + 2.2), (9.2, ankle + 1.8), (9.0, 4.2), (6.2, 5.4), (4.2, 4.6)]
    )
    sheet.paint(ankle_hole, 0)
    under = np.maximum(np.maximum(5.8 - flat_NHW, sheet.y_NHW - 8.6), np.abs(sheet.x_NHW) - 11.4)  # from sole to ground
    sheet.paint(under, sheet.cloth(0.6), sheet.sometimes(0.4))
    sheet.paint(np.maximum(under, 9.8 - sheet.x_NHW), sheet.cloth(0.6))
    sheet.paint(stroke(sheet.x_NHW, flat_NHW, [(-11.6, 6.6), (11.2, 6.6)], sheet.between(1.8, 3)), sheet.trim())


def sneaker(sheet: Sheet) -> None:
    """Draw a low shoe with a thick light sole and laces."""
    ankle, toe = sheet.between(-6, -3), sheet.between(0.5, 3)
    upper = polygon(
        sheet.x_NHW,
        sheet.y_NHW,
        [
            (-12.0, 6.5),
            (-11.6, toe + 1),
            (-9.5, toe - 0.5),
            (-5.0, toe - 1.5),
            (0.5, ankle),
            (3.5, ankle + 0.3),
            (6.0, ankle + 1.6),
            (10.5, ankle - 0.4),
            (11.4, 0.5),
            (11.6, 6.5),
        ],
    )
    sheet.sew(upper)
    trim = sheet.trim()
    for x in (-5.0, -3.2, -1.4):
        lace = stroke(sheet.x_NHW, sheet.y_NHW, [(x, -3.5), (x + 2.2, 2.2)], 0.8)
        sheet.paint(np.maximum(lace, upper), trim)
    sheet.paint(stroke(sheet.x_NHW, sheet.y_NHW, [(2.0, 5.0), (7.5, 0.0)], 1.6), trim, sheet.sometimes(0.5))
    sheet.paint(
        stroke(sheet.x_NHW, sheet.y_NHW, [(-11.2, 6.8), (11.0, 6.8)], sheet.between(2, 3.4)), sheet.between(0.7, 1)
    )


def bag(sheet: Sheet) -> None:
    """Draw a box with a handle, often with a flap and a clasp."""
    wide, bottom, top = sheet.between(8, 12), sheet.between(7.5, 12), sheet.between(-6, -1)
    ring = ellipse(sheet.x_NHW, sheet.y_NHW - top, sheet.between(0.4, 0.75) * wide, sheet.between(3.5, 7))
    sheet.paint(np.abs(ring) - sheet.between(0.6, 1.2), sheet.cloth(0.85), sheet.sometimes(0.85))
    mouth = wide + sheet.between(-2, 1)
    box = polygon(
        sheet.side_NHW,
        sheet.y_NHW,
        [(-4.0, top), (mouth - 1, top), (mouth, top + 1), (wide, bottom - 1), (wide - 1, bottom), (-4.0, bottom)],
    )
    sheet.sew(box)
    flap, fold = sheet.sometimes(0.6), top + (bottom - top) * sheet.between(0.3, 0.6)
    seam = stroke(sheet.x_NHW, sheet.y_NHW, [(-14.0, fold), (0.0, fold + 1.5), (14.0, fold)], 1.0)
    sheet.paint(np.maximum(seam, box), 0.08, flap)
    sheet.paint(ellipse(sheet.x_NHW, sheet.y_NHW - fold - 1.5, 1.4, 1.4), 0.95, flap)


def ankle_boot(sheet: Sheet) -> None:
    """Draw a shaft above the ankle, a sole, and a heel."""
    shaft, heel, front = sheet.between(-12, -7), sheet.between(0, 3.5), sheet.between(-3, 0.5)
    foot = 7.6 - heel  # y of the sole under the heel
    boot = polygon(
        sheet.x_NHW,
        sheet.y_NHW,
        [
            (-12.0, 7.4),
            (-11.9, 4.2),
            (-9.5, 2.2),
            (-5.5, 1.0),
            (front - 0.8, -2.5),
            (front, shaft),
            (9.8, shaft - 0.5),
            (9.5, -1.0),
            (10.8, 3.0),
            (10.4, foot),
            (3.0, foot),
        ],
    )
    sheet.sew(boot)
    sole: Points = [(-11.6, 7.8), (-3.0, 7.8), (3.5, foot + 0.4), (9.8, foot + 0.4)]
    sheet.paint(stroke(sheet.x_NHW, sheet.y_NHW, sole, 1.8), sheet.cloth(0.6))
    sheet.paint(
        polygon(sheet.x_NHW, sheet.y_NHW, [(5.0, foot), (10.6, foot), (10.2, 9.4), (6.0, 9.4)]), sheet.cloth(0.6)
    )
    cuff = stroke(sheet.x_NHW, sheet.y_NHW, [(front - 1, shaft + 2.4), (11.0, shaft + 2.0)], 1.3)
    sheet.paint(np.maximum(cuff, boot), sheet.trim(), sheet.sometimes(0.6) * 0.8)


GARMENTS: tuple[Callable[[Sheet], None], ...] = (
    t_shirt,
    trouser,
    pullover,
    dress,
    coat,
    sandal,
    shirt,
    sneaker,
    bag,
    ankle_boot,
)
