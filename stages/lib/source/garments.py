"""Draw FashionMNIST's ten classes, light on black as the real images, each cut, patterned, placed and lit at random.

They vary so much that a linear model does worse than a convolutional one. y points downwards; the numbers are in a
garment's own units, as `Sheet` says.
"""

from collections.abc import Callable

import numpy as np

from stages.lib.source.canvas import Array, Points, Sheet, ellipse, polygon, stroke

# Shape suffixes: N pictures of one class, H x W pixels.


def _bodice(
    s: Sheet,
    *,
    chest: Array,
    waist: Array,
    hem: Array,
    length: Array,
    sleeve: Array,
    spread: Array,
    width: Array,
) -> Array:
    """Sew what T-shirt, pullover, dress, coat and shirt share, two sleeves and a body; return the body's distance.

    Half widths of chest, waist and hem; y of the hem; length, spread (0 hangs down, 1 stands out), width of a sleeve.
    """
    shoulder = chest + 0.3
    out, down = _unit(spread, 1 - spread)  # the direction of the right sleeve
    end_x, end_y = shoulder + out * sleeve, -10.0 + down * sleeve
    cuff = width * 0.38
    sleeves = polygon(
        s.side_NHW,
        s.y_NHW,
        [
            (shoulder - 2, -11.0),
            (shoulder + down * 0.8, -10.6 - out * 0.5),
            (end_x + down * cuff, end_y - out * cuff),
            (end_x - down * cuff, end_y + out * cuff),
            (chest - 1, -8.5 + width),
        ],
    )
    s.sew(sleeves, 0.9)
    body = polygon(
        s.side_NHW,
        s.y_NHW,
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
    s.sew(body)
    return body


def _unit(x: Array, y: Array) -> tuple[Array, Array]:
    length = np.sqrt(x * x + y * y)
    return x / length, y / length


def t_shirt(s: Sheet) -> None:
    """Short sleeves that stand out, a round neck, sometimes a print on the chest."""
    chest = s.between(6, 8)
    _bodice(
        s,
        chest=chest,
        waist=chest - s.between(-0.4, 0.8),
        hem=chest + s.between(-0.5, 1),
        length=s.between(8, 12.5),
        sleeve=s.between(4.5, 7),
        spread=s.between(0.4, 0.65),
        width=s.between(4, 6),
    )
    s.paint(ellipse(s.x_NHW, s.y_NHW + 12.3, s.between(2.4, 3.8), s.between(1.8, 3.4)), 0)
    wide, high = s.between(1.5, 4.2), s.between(1.2, 2.5)
    motif = polygon(s.side_NHW, s.y_NHW + 3, [(-4.0, -high), (wide, -high), (wide, high), (-4.0, high)])
    s.paint(motif, s.trim(), s.sometimes(0.4) * 0.8)


def trouser(s: Sheet) -> None:
    """A waistband and two legs."""
    gap, foot, length = s.between(0.2, 2), s.between(2.2, 3.8), s.between(9.5, 13)
    waist = s.between(4, 5.8)
    fork = s.between(-6, -3)
    legs = polygon(
        s.side_NHW,
        s.y_NHW,
        [
            (-4.0, -12.6),
            (waist, -12.6),
            (waist + s.between(0, 1.2), -6.0),
            (gap + foot * 1.3, 2.0),
            (gap + foot, length),
            (gap, length),
            (0.1, fork),
            (-4.0, fork),
        ],
    )
    s.sew(legs)
    band = stroke(s.x_NHW, s.y_NHW, [(-8.0, -11.0), (8.0, -11.0)], 0.9)
    s.paint(np.maximum(band, legs), s.trim(), s.sometimes(0.7) * 0.7)


def pullover(s: Sheet) -> None:
    """Long sleeves, a round neck or a roll neck, ribbing at the hem."""
    chest, length = s.between(5.8, 7.6), s.between(7.5, 12)
    body = _bodice(
        s,
        chest=chest,
        waist=chest + s.between(-0.6, 0.8),
        hem=chest + s.between(-0.6, 1),
        length=length,
        sleeve=s.between(15, 20),
        spread=s.between(0.08, 0.28),
        width=s.between(4, 5.6),
    )
    rib = stroke(s.x_NHW, s.y_NHW, [(-12.0, length - 0.8), (12.0, length - 0.8)], 2.4)
    s.paint(np.maximum(rib, body), s.cloth(s.between(0.4, 0.7)))
    roll = s.sometimes(0.4)
    s.paint(ellipse(s.x_NHW, s.y_NHW + 12.3, s.between(2.2, 3.2), s.between(1.2, 2)), 0, 1 - roll)
    s.paint(stroke(s.x_NHW, s.y_NHW, [(-2.0, -12.2), (2.0, -12.2)], 2.6), s.cloth(0.7), roll)


def dress(s: Sheet) -> None:
    """A narrow waist and a wide skirt; straps, or short sleeves."""
    waist = s.between(3, 5)
    _bodice(
        s,
        chest=waist + s.between(0.6, 1.8),
        waist=waist,
        hem=waist + s.between(1.5, 6),
        length=s.between(10.5, 13),
        sleeve=s.between(0.5, 6),
        spread=s.between(0.35, 0.65),
        width=s.between(2.8, 4),
    )
    s.paint(ellipse(s.x_NHW, s.y_NHW + 12.3, s.between(1.8, 2.8), s.between(2, 5)), 0)
    belt = stroke(s.x_NHW, s.y_NHW, [(-waist, 0.0), (waist, 0.0)], 1.3)
    s.paint(belt, s.trim(), s.sometimes(0.6) * 0.8)


def coat(s: Sheet) -> None:
    """Long and wide, long sleeves, open down the front, with lapels."""
    chest = s.between(6, 7.6)
    _bodice(
        s,
        chest=chest,
        waist=chest + s.between(-1, 0.6),
        hem=chest + s.between(-0.2, 2),
        length=s.between(10.5, 13.2),
        sleeve=s.between(16, 20),
        spread=s.between(0.06, 0.24),
        width=s.between(4.4, 5.8),
    )
    opening = s.between(-6, 0)  # y where the lapels meet
    lapel = polygon(s.side_NHW, s.y_NHW, [(-4.0, -12.6), (1.8, -12.6), (4.2, -8.5), (0.4, opening), (-4.0, opening)])
    s.paint(lapel, s.cloth(s.between(1.2, 1.7)))
    s.paint(polygon(s.side_NHW, s.y_NHW, [(-4.0, -14.0), (1.8, -14.0), (0.0, opening), (-4.0, opening)]), 0)
    s.paint(stroke(s.x_NHW, s.y_NHW, [(0.0, opening), (0.0, 16.0)], s.between(0.9, 1.8)), 0)


def shirt(s: Sheet) -> None:
    """Sleeves of any length, a collar, and buttons down the front."""
    chest, sleeve = s.between(5.6, 7.4), s.between(4.5, 18)
    body = _bodice(
        s,
        chest=chest,
        waist=chest - s.between(-0.2, 1.2),
        hem=chest + s.between(-0.5, 0.8),
        length=s.between(9, 12.8),
        sleeve=sleeve,
        spread=0.6 - sleeve * 0.025,
        width=s.between(3.8, 5.2),
    )
    front = stroke(s.x_NHW, s.y_NHW, [(0.0, -11.0), (0.0, 14.0)], 1.7)
    s.paint(np.maximum(front, body), np.maximum(s.cloth(1.5), 0.5))
    for y in (-7.0, -3.5, 0.0, 3.5, 7.0):
        s.paint(ellipse(s.x_NHW, s.y_NHW - y, 0.85, 0.85), 0)
    s.paint(polygon(s.side_NHW, s.y_NHW, [(-1.0, -13.0), (1.4, -13.0), (0.0, -10.2), (-1.0, -10.2)]), 0)
    collar = polygon(s.side_NHW, s.y_NHW, [(1.3, -13.2), (3.0, -12.2), (3.6, -9.4), (0.2, -10.2)])
    s.paint(collar, np.maximum(s.cloth(1.6), 0.5))


def sandal(s: Sheet) -> None:
    """Straps with gaps between them, on a sole that is flat, a wedge, or on a heel."""
    rise = s.between(0, 6)  # of the heel above the toes
    flat_NHW = s.y_NHW + rise * np.clip((s.x_NHW + 5) / 10, 0, 1)  # y as if the sole were flat
    ankle, front = s.between(-4.5, -2), s.between(1, 3.2)
    foot = polygon(
        s.x_NHW,
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
    s.sew(foot)
    for x, chance in ((-6.4, 1.0), (-2.2, 0.8), (1.6, 0.6)):
        gap = stroke(s.x_NHW, flat_NHW, [(x - 1.2, -6.0), (x + 1.2, 5.6)], s.between(1.6, 2.6))
        s.paint(gap, 0, s.sometimes(chance))
    ankle_hole = polygon(
        s.x_NHW, flat_NHW, [(3.4, ankle + 2.2), (9.2, ankle + 1.8), (9.0, 4.2), (6.2, 5.4), (4.2, 4.6)]
    )
    s.paint(ankle_hole, 0)
    under = np.maximum(np.maximum(5.8 - flat_NHW, s.y_NHW - 8.6), np.abs(s.x_NHW) - 11.4)  # from sole to ground
    s.paint(under, s.cloth(0.6), s.sometimes(0.4))
    s.paint(np.maximum(under, 9.8 - s.x_NHW), s.cloth(0.6))
    s.paint(stroke(s.x_NHW, flat_NHW, [(-11.6, 6.6), (11.2, 6.6)], s.between(1.8, 3)), s.trim())


def sneaker(s: Sheet) -> None:
    """Low, with a thick light sole and laces."""
    ankle, toe = s.between(-6, -3), s.between(0.5, 3)
    upper = polygon(
        s.x_NHW,
        s.y_NHW,
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
    s.sew(upper)
    trim = s.trim()
    for x in (-5.0, -3.2, -1.4):
        lace = stroke(s.x_NHW, s.y_NHW, [(x, -3.5), (x + 2.2, 2.2)], 0.8)
        s.paint(np.maximum(lace, upper), trim)
    s.paint(stroke(s.x_NHW, s.y_NHW, [(2.0, 5.0), (7.5, 0.0)], 1.6), trim, s.sometimes(0.5))
    s.paint(stroke(s.x_NHW, s.y_NHW, [(-11.2, 6.8), (11.0, 6.8)], s.between(2, 3.4)), s.between(0.7, 1))


def bag(s: Sheet) -> None:
    """A box with a handle, often with a flap and a clasp."""
    wide, bottom, top = s.between(8, 12), s.between(7.5, 12), s.between(-6, -1)
    ring = ellipse(s.x_NHW, s.y_NHW - top, s.between(0.4, 0.75) * wide, s.between(3.5, 7))
    s.paint(np.abs(ring) - s.between(0.6, 1.2), s.cloth(0.85), s.sometimes(0.85))
    mouth = wide + s.between(-2, 1)
    box = polygon(
        s.side_NHW,
        s.y_NHW,
        [(-4.0, top), (mouth - 1, top), (mouth, top + 1), (wide, bottom - 1), (wide - 1, bottom), (-4.0, bottom)],
    )
    s.sew(box)
    flap, fold = s.sometimes(0.6), top + (bottom - top) * s.between(0.3, 0.6)
    seam = stroke(s.x_NHW, s.y_NHW, [(-14.0, fold), (0.0, fold + 1.5), (14.0, fold)], 1.0)
    s.paint(np.maximum(seam, box), 0.08, flap)
    s.paint(ellipse(s.x_NHW, s.y_NHW - fold - 1.5, 1.4, 1.4), 0.95, flap)


def ankle_boot(s: Sheet) -> None:
    """A shaft above the ankle, a sole, and a heel."""
    shaft, heel, front = s.between(-12, -7), s.between(0, 3.5), s.between(-3, 0.5)
    foot = 7.6 - heel  # y of the sole under the heel
    boot = polygon(
        s.x_NHW,
        s.y_NHW,
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
    s.sew(boot)
    sole: Points = [(-11.6, 7.8), (-3.0, 7.8), (3.5, foot + 0.4), (9.8, foot + 0.4)]
    s.paint(stroke(s.x_NHW, s.y_NHW, sole, 1.8), s.cloth(0.6))
    s.paint(polygon(s.x_NHW, s.y_NHW, [(5.0, foot), (10.6, foot), (10.2, 9.4), (6.0, 9.4)]), s.cloth(0.6))
    cuff = stroke(s.x_NHW, s.y_NHW, [(front - 1, shaft + 2.4), (11.0, shaft + 2.0)], 1.3)
    s.paint(np.maximum(cuff, boot), s.trim(), s.sometimes(0.6) * 0.8)


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
