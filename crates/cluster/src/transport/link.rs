//! What can happen to a message on its way.

use base::rng::Rng;

/// One direction between two nodes. Messages overtake each other where the delay has a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Shortest delay in microseconds.
    pub delay_micros_min: u64,
    /// Longest delay in microseconds.
    pub delay_micros_max: u64,
    /// Of a thousand messages so many vanish.
    pub lost_per_mille: u16,
    /// Of a thousand messages so many arrive twice.
    pub doubled_per_mille: u16,
    /// Of a thousand messages so many arrive with a flipped bit.
    pub damaged_per_mille: u16,
}

/// What happens to one message: the copies that arrive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Delay of each copy, and the bit that is flipped in it, as a number below that of its bits.
    pub(super) copies: Vec<(u64, Option<u64>)>,
}

impl Link {
    /// A network in one building: 50 to 500 microseconds, nothing lost.
    #[must_use]
    pub fn near() -> Link {
        Link { delay_micros_min: 50, delay_micros_max: 500, ..Link::default() }
    }

    /// A bad day: up to 200 ms, and one message in twenty lost, doubled or damaged.
    #[must_use]
    pub fn bad() -> Link {
        Link {
            delay_micros_min: 50,
            delay_micros_max: 200_000,
            lost_per_mille: 30,
            doubled_per_mille: 15,
            damaged_per_mille: 5,
        }
    }

    pub(super) fn delay(&self, rng: &mut Rng) -> u64 {
        let range = self.delay_micros_max.saturating_sub(self.delay_micros_min);
        self.delay_micros_min + rng.below(range.saturating_add(1))
    }

    pub(super) fn draw(&self, bytes: usize, rng: &mut Rng) -> Fate {
        let happens = |per_mille: u16, rng: &mut Rng| rng.below(1000) < u64::from(per_mille);
        if happens(self.lost_per_mille, rng) {
            return Fate::default();
        }
        let count = if happens(self.doubled_per_mille, rng) { 2 } else { 1 };
        let copy = |rng: &mut Rng| {
            let damaged = happens(self.damaged_per_mille, rng);
            (self.delay(rng), damaged.then(|| rng.below(8 * bytes as u64)))
        };
        Fate { copies: (0..count).map(|_| copy(rng)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_as_frequent_as_said() {
        let (link, mut rng) = (Link::bad(), Rng::new(1));
        let fates: Vec<Fate> = (0..100_000).map(|_| link.draw(60, &mut rng)).collect();
        let count = |of: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| of(fate)).count();
        assert!((2500..3500).contains(&count(&|fate| fate.copies.is_empty())));
        assert!((1000..2000).contains(&count(&|fate| fate.copies.len() == 2)));
        let damaged = |fate: &Fate| fate.copies.iter().any(|copy| copy.1.is_some());
        assert!((300..700).contains(&count(&damaged)));
        let copies = || fates.iter().flat_map(|fate| &fate.copies);
        assert!(
            copies()
                .all(|(delay, bit)| (50..=200_000).contains(delay)
                    && bit.is_none_or(|bit| bit < 480))
        );
        let sure = Link::default();
        assert_eq!(sure.draw(60, &mut rng), Fate { copies: vec![(0, None)] });
    }
}
