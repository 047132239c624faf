//! Walks from many seeds: every invariant holds after every event, and everything settles. A
//! seed that fails is printed with its transcript; `SEED=n` walks that one alone, `SEEDS=n` so
//! many. The seeds are dealt out to several tests so that they use several cores.

#![expect(
    clippy::disallowed_methods,
    reason = "the crate touches nothing; its test is told seeds by the environment"
)]

use sim::walk::Course;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn walk(hand: u64) {
    for course in [Course::Everything, Course::Moves] {
        walk_all(hand, course);
    }
}

fn walk_all(hand: u64, course: Course) {
    let hands = 4;
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(5000),
    };
    for seed in seeds.filter(|seed| seed % hands == hand) {
        let broken = sim::walk::walk(seed, course).err();
        assert!(
            broken.is_none(),
            "{course:?}: {}(SEED={seed} walks it alone)",
            broken.map(|broken| broken.to_string()).unwrap_or_default()
        );
    }
}

#[test]
fn every_first_of_four_walks_settles() {
    walk(0);
}

#[test]
fn every_second_of_four_walks_settles() {
    walk(1);
}

#[test]
fn every_third_of_four_walks_settles() {
    walk(2);
}

#[test]
fn every_fourth_of_four_walks_settles() {
    walk(3);
}
