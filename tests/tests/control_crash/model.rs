//! What may be there, given what was asked for and what was answered.

/// A thing that changes, of which not every change was answered.
#[derive(Debug, Clone)]
pub(crate) struct Possible<T>(Vec<T>);

impl<T: Clone + PartialEq + std::fmt::Debug> Possible<T> {
    pub(crate) fn exactly(state: T) -> Self {
        Self(vec![state])
    }

    /// A change was acknowledged.
    pub(crate) fn became(&mut self, state: T) {
        self.0 = vec![state];
    }

    /// A change was asked for, and nobody knows what became of it.
    pub(crate) fn perhaps_became(&mut self, state: T) {
        if !self.0.contains(&state) {
            self.0.push(state);
        }
    }

    pub(crate) fn may_be(&self, state: &T) -> bool {
        self.0.contains(state)
    }
}
