//! Places for what is under way: each has a number, by which whoever completes it names it.

/// Places that are given out again once they are free, so that their numbers stay small.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Puts it in a place and gives the place's number.
    pub fn insert(&mut self, value: T) -> usize {
        let free = self.free.pop().and_then(|number| Some((number, self.places.get_mut(number)?)));
        match free {
            Some((number, place)) => {
                *place = Some(value);
                number
            }
            None => {
                self.places.push(Some(value));
                self.places.len() - 1
            }
        }
    }

    /// Takes what is there, which frees the place; `None` where nothing is.
    pub fn take(&mut self, number: usize) -> Option<T> {
        let value = self.places.get_mut(number)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// How many places are in use.
    pub fn used(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All that is there.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.places.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_out_again_once_it_is_free_and_not_before() {
        let mut slots = Slots::default();
        assert_eq!((slots.insert('a'), slots.insert('b'), slots.used()), (0, 1, 2));
        assert_eq!((slots.take(0), slots.take(0), slots.take(7)), (Some('a'), None, None));
        assert_eq!((slots.insert('c'), slots.insert('d'), slots.used()), (0, 2, 3));
        assert_eq!(slots.into_values().collect::<String>(), "cbd");
    }
}
