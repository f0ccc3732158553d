use std::collections::BTreeMap;

/// A place in the arena: the run of pages and where in it. Ordered, so that neighbours are next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) run: usize,
    pub(super) offset: usize,
}

/// What is free: where, and how many bytes. Never two that touch.
#[derive(Default)]
pub(super) struct FreeList(BTreeMap<Place, usize>);

impl FreeList {
    /// Takes the first place of that size.
    pub(super) fn take(&mut self, size: usize) -> Option<Place> {
        let (&place, &free) = self.0.iter().find(|(_, free)| **free >= size)?;
        self.0.remove(&place);
        if free > size {
            self.0.insert(Place { offset: place.offset + size, ..place }, free - size);
        }
        Some(place)
    }

    /// Makes a place free, and one with the free places that it touches.
    pub(super) fn give(&mut self, mut place: Place, mut size: usize) {
        if let Some(after) = self.0.remove(&Place { offset: place.offset + size, ..place }) {
            size += after;
        }
        if let Some((&before, length)) = self.0.range(..place).next_back()
            && before.run == place.run
            && before.offset + length == place.offset
        {
            size += length;
            place = before;
        }
        self.0.insert(place, size);
    }

    #[cfg(test)]
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Place, usize)> {
        self.0.iter().map(|(place, size)| (*place, *size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(run: usize, offset: usize) -> Place {
        Place { run, offset }
    }

    #[test]
    fn neighbours_become_one_and_runs_stay_apart() {
        let mut free = FreeList::default();
        for (place, size) in
            [(at(0, 0), 64), (at(1, 0), 64), (at(0, 128), 64), (at(0, 64), 64), (at(1, 128), 64)]
        {
            free.give(place, size);
        }
        assert_eq!(free.pieces().collect::<Vec<_>>(), [(at(0, 0), 192), (at(1, 0), 64), (at(1, 128), 64)]);
    }

    #[test]
    fn the_first_place_that_fits_is_taken() {
        let mut free = FreeList::default();
        free.give(at(0, 0), 64);
        free.give(at(0, 128), 256);
        assert_eq!(free.take(128), Some(at(0, 128)));
        assert_eq!(free.take(64), Some(at(0, 0)));
        assert_eq!(free.take(192), None);
        assert_eq!(free.pieces().collect::<Vec<_>>(), [(at(0, 256), 128)]);
    }
}
