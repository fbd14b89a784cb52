//! Texts that a segment can be, as a sequence of sets of bytes, and whether two such sequences have a text in common.

use super::{
    charset::CharSet,
    encode::encoded_topic,
    parse::{Part, Segment},
};

/// A byte of the set once, or any number of times.
#[derive(Clone, Copy)]
pub(super) enum Atom {
    Once(CharSet),
    Repeated(CharSet),
}

/// What `segment` can be; `topic` when it is known.
pub(super) fn atoms(segment: &Segment, topic: Option<&str>) -> Vec<Atom> {
    let mut atoms = Vec::new();
    for (place, part) in segment.iter().enumerate() {
        match (part, topic) {
            (Part::Literal(text), _) => atoms.extend(literal(text)),
            (Part::Topic, Some(topic)) => atoms.extend(literal(&encoded_topic(topic, place == 0))),
            (part, _) => atoms.extend([Atom::Once(part.charset()), Atom::Repeated(part.charset())]),
        }
    }
    atoms
}

/// Any text.
pub(super) fn anything() -> Atom {
    Atom::Repeated(CharSet::filter(|_| true))
}

/// Whether a segment can end with `-i` and a number.
pub(super) fn can_end_like_incarnation(segment: &Segment) -> bool {
    let digits = CharSet::of("0-9");
    let mark: Vec<Atom> = std::iter::once(anything()).chain(literal("-i")).chain([Atom::Once(digits), Atom::Repeated(digits)]).collect();
    can_be_equal(&atoms(segment, None), &mark)
}

fn literal(text: &str) -> impl Iterator<Item = Atom> {
    text.bytes().map(|byte| Atom::Once(CharSet::filter(|other| other == byte)))
}

/// Whether one text fits both: a walk through the pairs of places that the same text can lead to.
pub(super) fn can_be_equal(one: &[Atom], other: &[Atom]) -> bool {
    let width = other.len() + 1;
    let mut seen = vec![false; (one.len() + 1) * width];
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        if std::mem::replace(&mut seen[i * width + j], true) {
            continue;
        }
        if i == one.len() && j == other.len() {
            return true;
        }
        let (a, b) = (one.get(i), other.get(j));
        if let Some(Atom::Repeated(_)) = a {
            open.push((i + 1, j));
        }
        if let Some(Atom::Repeated(_)) = b {
            open.push((i, j + 1));
        }
        if let (Some(Atom::Once(mine) | Atom::Repeated(mine)), Some(Atom::Once(theirs) | Atom::Repeated(theirs))) = (a, b)
            && mine.meets(*theirs)
        {
            let next = |atom: Option<&Atom>, at: usize| if matches!(atom, Some(Atom::Repeated(_))) { at } else { at + 1 };
            open.push((next(a, i), next(b, j)));
        }
    }
    false
}
