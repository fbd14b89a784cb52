//! Records wait here for their payloads and leave in the order in which they came.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Lines of records, one per `K`; those of one line leave in order.
pub(super) struct Lines<K, T> {
    lines: HashMap<K, VecDeque<Slot<T>>>,
    next: u64,
}

struct Slot<T> {
    number: u64,
    /// `None` while its payload is on its way.
    record: Option<T>,
}

/// A place in a line.
#[derive(Clone, Debug)]
pub(super) struct Place<K> {
    line: K,
    number: u64,
}

impl<K: Hash + Eq + Clone, T> Lines<K, T> {
    pub(super) fn new() -> Lines<K, T> {
        Lines { lines: HashMap::new(), next: 0 }
    }

    /// Nobody waits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Nobody waits in the line.
    pub(super) fn is_clear(&self, line: &K) -> bool {
        !self.lines.contains_key(line)
    }

    /// Takes a place at the end of a line.
    pub(super) fn enter(&mut self, line: K, record: Option<T>) -> Place<K> {
        let number = self.next;
        self.next += 1;
        self.lines.entry(line.clone()).or_default().push_back(Slot { number, record });
        Place { line, number }
    }

    /// The record of a place can go.
    pub(super) fn ready(&mut self, place: &Place<K>, record: T) {
        let slot = self.lines.get_mut(&place.line).and_then(|line| line.iter_mut().find(|slot| slot.number == place.number));
        if let Some(slot) = slot {
            slot.record = Some(record);
        }
    }

    /// A place is given up: its record will not go.
    pub(super) fn leave(&mut self, place: &Place<K>) {
        if let Some(line) = self.lines.get_mut(&place.line) {
            line.retain(|slot| slot.number != place.number);
            if line.is_empty() {
                self.lines.remove(&place.line);
            }
        }
    }

    /// Hands out what can go from a line, in order, until `go` keeps one (gives it back) or one is not ready.
    pub(super) fn drain(&mut self, line: &K, mut go: impl FnMut(T) -> Option<T>) -> bool {
        let Some(slots) = self.lines.get_mut(line) else { return true };
        while let Some(slot) = slots.front_mut() {
            let Some(record) = slot.record.take() else { return true };
            if let Some(record) = go(record) {
                slot.record = Some(record);
                return false;
            }
            slots.pop_front();
        }
        self.lines.remove(line);
        true
    }

    /// Takes out every record that only waits for others, in no order; places whose payloads are on their way stay.
    pub(super) fn take_ready(&mut self) -> Vec<T> {
        let mut taken = Vec::new();
        self.lines.retain(|_, slots| {
            let (ready, on_their_way) = slots.drain(..).partition::<VecDeque<_>, _>(|slot| slot.record.is_some());
            taken.extend(ready.into_iter().filter_map(|slot| slot.record));
            *slots = on_their_way;
            !slots.is_empty()
        });
        taken
    }

    /// Lines whose first record can go.
    pub(super) fn stuck(&self) -> Vec<K> {
        let can_go = |slots: &VecDeque<Slot<T>>| slots.front().is_some_and(|slot| slot.record.is_some());
        self.lines.iter().filter(|(_, slots)| can_go(slots)).map(|(line, _)| line.clone()).collect()
    }
}

impl<K> Place<K> {
    pub(super) fn line(&self) -> &K {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(lines: &mut Lines<&'static str, u32>, line: &'static str) -> Vec<u32> {
        let mut gone = Vec::new();
        lines.drain(&line, |record| {
            gone.push(record);
            None
        });
        gone
    }

    #[test]
    fn records_leave_in_the_order_in_which_they_came_whenever_they_become_ready() {
        let mut lines = Lines::new();
        let first = lines.enter("a", None);
        let second = lines.enter("a", None);
        lines.enter("a", Some(3));
        lines.enter("b", Some(9));
        assert_eq!((out(&mut lines, "a"), out(&mut lines, "b")), (vec![], vec![9]), "another line waits for nobody");
        lines.ready(&second, 2);
        assert_eq!(out(&mut lines, "a"), [0; 0]);
        lines.ready(&first, 1);
        assert_eq!(out(&mut lines, "a"), [1, 2, 3]);
        assert!(lines.is_clear(&"a"));
    }

    #[test]
    fn what_is_ready_is_taken_out_and_what_is_on_its_way_keeps_its_place() {
        let mut lines = Lines::new();
        let first = lines.enter("a", None);
        lines.enter("a", Some(2));
        lines.enter("b", Some(3));
        let mut taken = lines.take_ready();
        taken.sort_unstable();
        assert_eq!(taken, [2, 3]);
        lines.enter("a", Some(4));
        lines.ready(&first, 1);
        assert_eq!(out(&mut lines, "a"), [1, 4]);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_place_that_is_given_up_and_a_queue_that_is_full_keep_the_order() {
        let mut lines = Lines::new();
        let first = lines.enter("a", None);
        lines.enter("a", Some(2));
        lines.enter("a", Some(3));
        lines.leave(&first);
        let mut room = 1;
        let full = !lines.drain(&"a", |record| {
            room -= 1;
            (room < 0).then_some(record)
        });
        assert!(full && lines.stuck() == ["a"]);
        assert_eq!(out(&mut lines, "a"), [3]);
        assert!(lines.is_clear(&"a") && lines.stuck().is_empty());
    }
}
