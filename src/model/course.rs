//! What was in force when.

/// A value that has changed in the course of time. Up to the moment of a change, and at it, the old one was in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Course<T> {
    now: T,
    /// Values of before, each with the moment until which it was in force, in their order.
    past: Vec<(i64, T)>,
}

impl<T> Course<T> {
    /// It was always so.
    pub const fn new(now: T) -> Self {
        Self {
            now,
            past: Vec::new(),
        }
    }

    /// Adds what was in force until a moment, after all moments that were added before.
    pub fn until(&mut self, moment: i64, value: T) {
        self.past.push((moment, value));
    }

    /// What is in force now.
    pub fn now(&self) -> &T {
        &self.now
    }

    fn nth(&self, moment: i64) -> usize {
        self.past.partition_point(|(until, _)| *until < moment)
    }

    /// What was in force at a moment.
    pub fn at(&self, moment: i64) -> &T {
        self.past
            .get(self.nth(moment))
            .map_or(&self.now, |(_, value)| value)
    }

    /// Whether it has changed between two moments.
    pub fn changed(&self, from: i64, to: i64) -> bool {
        self.nth(from) != self.nth(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_a_change_and_at_it_the_old_value_holds() {
        let mut course = Course::new('c');
        course.until(10, 'a');
        course.until(20, 'b');
        let seen: String = [i64::MIN, 10, 11, 20, 21, i64::MAX]
            .map(|t| *course.at(t))
            .iter()
            .collect();
        assert_eq!((seen.as_str(), *course.now()), ("aabbcc", 'c'));
        assert!(course.changed(10, 11) && course.changed(5, 30) && !course.changed(11, 20));
    }
}
