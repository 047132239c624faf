//! How long things take and how often they go wrong: always the same in scripts, drawn from a
//! seed in walks.

use model::Millis;

use crate::random::Random;

#[derive(Clone, Debug)]
pub struct Pace {
    random: Option<Random>,
    /// Whether anything may go wrong by itself.
    pub faults: bool,
}

impl Pace {
    /// Nothing varies, nothing goes wrong by itself.
    pub fn steady() -> Self {
        Self {
            random: None,
            faults: false,
        }
    }

    pub fn seeded(seed: u64) -> Self {
        Self {
            random: Some(Random::new(seed)),
            faults: true,
        }
    }

    /// `usual` when steady, else mostly below twice that and now and then twenty times as long.
    pub fn span(&mut self, usual: u64) -> Millis {
        match &mut self.random {
            None => Millis(usual),
            Some(random) => {
                let most = if random.chance(30) { 40 } else { 2 };
                Millis(1 + random.below(usual * most))
            }
        }
    }

    /// Whether this goes wrong, so many times in a thousand.
    pub fn mishap(&mut self, in_a_thousand: u64) -> bool {
        self.faults && self.coin(in_a_thousand)
    }

    /// What is nobody's fault but may be either way; false when steady.
    pub fn coin(&mut self, in_a_thousand: u64) -> bool {
        self.random
            .as_mut()
            .is_some_and(|random| random.chance(in_a_thousand))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.random.as_mut().map_or(0, |random| random.below(end))
    }
}
