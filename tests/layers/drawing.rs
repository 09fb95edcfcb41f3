//! The drawing of the crates in ARCHITECTURE.md, read as arrows.

use std::collections::{BTreeMap, BTreeSet};

/// The sides of a cell that a line leaves it by: a step in lines and one in columns.
const UP: (isize, isize) = (-1, 0);
const DOWN: (isize, isize) = (1, 0);
const LEFT: (isize, isize) = (0, -1);
const RIGHT: (isize, isize) = (0, 1);

/// The arrows of the drawing, from each crate to those that it points to. A line that joins others
/// is one with them: everything that it starts at points to everything where it has an arrowhead.
pub(crate) fn arrows(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let section = architecture.split("\n## Crates\n").nth(1).expect("a section about crates");
    let drawing = section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let drawing: Vec<Vec<char>> =
        drawing.expect("a drawing").lines().map(|line| line.chars().collect()).collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (line, cells) in drawing.iter().enumerate() {
        for column in 0..cells.len() {
            if let Some(name) = name_from(&drawing, line, column) {
                arrows.entry(name).or_default();
            }
            let (from, to) = follow(&drawing, &mut seen, (line, column));
            for name in from {
                arrows.entry(name).or_default().extend(to.clone());
            }
        }
    }
    arrows
}

/// The names at the starts of a line, and the names at its arrowheads.
fn follow(
    drawing: &[Vec<char>],
    seen: &mut BTreeSet<(usize, usize)>,
    start: (usize, usize),
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
    let mut next = vec![start];
    while let Some(cell) = next.pop() {
        let glyph = glyph(drawing, cell);
        if sides(glyph).is_empty() || !seen.insert(cell) {
            continue;
        }
        for &side in sides(glyph) {
            // There may be one space between a line and its name.
            let adjacent = beyond_crossings(drawing, cell, side);
            let further = adjacent.filter(|_| side.0 == 0).and_then(|cell| step(cell, side));
            let name =
                [adjacent, further].into_iter().flatten().find_map(|at| name_at(drawing, at));
            match name {
                Some(name) if is_head(glyph, side) => _ = to.insert(name),
                Some(name) => _ = from.insert(name),
                None => next.extend(adjacent.filter(|adjacent| {
                    sides(self::glyph(drawing, *adjacent)).contains(&(-side.0, -side.1))
                })),
            }
        }
    }
    (from, to)
}

/// The next cell in a direction, without those where another line crosses.
fn beyond_crossings(
    drawing: &[Vec<char>],
    cell: (usize, usize),
    side: (isize, isize),
) -> Option<(usize, usize)> {
    let next = step(cell, side)?;
    if glyph(drawing, next) == '╫' { beyond_crossings(drawing, next, side) } else { Some(next) }
}

fn sides(glyph: char) -> &'static [(isize, isize)] {
    match glyph {
        '│' | '▼' | '▲' => &[UP, DOWN],
        '─' | '▶' | '◀' => &[LEFT, RIGHT],
        '┌' => &[DOWN, RIGHT],
        '┐' => &[DOWN, LEFT],
        '└' => &[UP, RIGHT],
        '┘' => &[UP, LEFT],
        '├' => &[UP, DOWN, RIGHT],
        '┤' => &[UP, DOWN, LEFT],
        '┬' => &[DOWN, LEFT, RIGHT],
        '┴' => &[UP, LEFT, RIGHT],
        '┼' => &[UP, DOWN, LEFT, RIGHT],
        _ => &[],
    }
}

fn is_head(glyph: char, side: (isize, isize)) -> bool {
    [('▼', DOWN), ('▲', UP), ('▶', RIGHT), ('◀', LEFT)].contains(&(glyph, side))
}

fn glyph(drawing: &[Vec<char>], (line, column): (usize, usize)) -> char {
    drawing.get(line).and_then(|cells| cells.get(column)).copied().unwrap_or(' ')
}

fn step(cell: (usize, usize), side: (isize, isize)) -> Option<(usize, usize)> {
    Some((cell.0.checked_add_signed(side.0)?, cell.1.checked_add_signed(side.1)?))
}

/// The name that covers a cell.
fn name_at(drawing: &[Vec<char>], (line, column): (usize, usize)) -> Option<String> {
    let start =
        (0..=column).rev().take_while(|at| is_letter(glyph(drawing, (line, *at)))).last()?;
    name_from(drawing, line, start)
}

/// The name that starts in a cell.
fn name_from(drawing: &[Vec<char>], line: usize, column: usize) -> Option<String> {
    let before = column.checked_sub(1).map_or(' ', |before| glyph(drawing, (line, before)));
    let letters = drawing.get(line)?.get(column..)?.iter().take_while(|glyph| is_letter(**glyph));
    let name: String = letters.collect();
    (!name.is_empty() && !is_letter(before)).then_some(name)
}

fn is_letter(glyph: char) -> bool {
    glyph.is_alphanumeric() || matches!(glyph, '_' | '-')
}
