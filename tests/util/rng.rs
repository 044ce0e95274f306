//! Seeded randomness for simulations and property tests.

/// SplitMix64: ten lines instead of a dependency; the same seed gives the same test.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Every seed is good.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n` times on average.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Runs a test over seeds. The failing seed is printed; `PORTICO_SEED=n` replays one.
pub fn seeds(count: u64, test: impl Fn(Rng) + std::panic::RefUnwindSafe) {
    let replay = std::env::var("PORTICO_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("PORTICO_SEED is a number"));
    for seed in replay.map_or(0..count, |seed| seed..seed + 1) {
        if let Err(panic) = std::panic::catch_unwind(|| test(Rng::new(seed))) {
            eprintln!("failed with PORTICO_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
