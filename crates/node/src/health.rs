//! An instance's health, from the results of its checks and their times. Who runs a check, and
//! what counts as passed, is the agent's business; what follows from `Unhealthy` is the leader's.
//!
//! ```text
//! unknown ── passed ──▶ healthy ── max failures in a row ──▶ unhealthy
//!    ▲  └── max failures in a row, after the grace ──────────▶   │
//!    │                                healthy ◀── passed ────────┘
//! ```
//! As in Marathon, failures before the first success do not count during the grace period. With
//! `max_failures` 0 a failure never makes an instance unhealthy (that would end it); its health
//! is unknown again, so that it is not counted as healthy.

use model::instance::Health;
use model::spec::HealthCheck;
use model::{Millis, Time};

/// One check of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checker {
    grace_ends: Time,
    interval: Millis,
    timeout: Millis,
    max_failures: u32,
    due: Time,
    failures: u32,
    health: Health,
}

/// An interval of 0 would check without pause.
const LEAST_INTERVAL: Millis = Millis(100);

impl Checker {
    /// For an instance that runs since `started`. `known`: what its health was when an earlier
    /// agent checked it, so that a restart of the agent is no flip.
    pub fn new(check: &HealthCheck, started: Time, known: Health) -> Self {
        Self {
            grace_ends: started + check.grace,
            interval: check.interval.max(LEAST_INTERVAL),
            timeout: check.timeout,
            max_failures: check.max_failures,
            due: started + check.delay,
            failures: 0,
            health: known,
        }
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Failures in a row that count.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next check is to begin.
    pub fn due(&self) -> Time {
        self.due
    }

    /// How long a check may take; longer has failed.
    pub fn timeout(&self) -> Millis {
        self.timeout
    }

    /// Takes the result of the check that began at `began` and ended at `ended`.
    pub fn took(&mut self, passed: bool, began: Time, ended: Time) {
        self.due = (began + self.interval).max(ended);
        if passed {
            self.failures = 0;
            self.health = Health::Healthy;
            return;
        }
        if self.health == Health::Unknown && self.failures == 0 && ended < self.grace_ends {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.max_failures == 0 {
            self.health = Health::Unknown;
        } else if self.failures >= self.max_failures {
            self.health = Health::Unhealthy;
        }
    }
}

/// The health of an instance with these checks: the worst of them.
pub fn combined<'a>(checkers: impl IntoIterator<Item = &'a Checker>) -> Health {
    let mut all = Health::Unknown;
    for (n, checker) in checkers.into_iter().enumerate() {
        all = match (checker.health, all) {
            (Health::Unhealthy, _) => return Health::Unhealthy,
            (Health::Healthy, _) if n == 0 => Health::Healthy,
            (Health::Healthy, so_far) => so_far,
            (Health::Unknown, _) => Health::Unknown,
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::spec::{Probe, ProbePort};

    fn check(max_failures: u32) -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp {
                port: ProbePort::Index(0),
            },
            grace: Millis(300),
            interval: Millis(100),
            timeout: Millis(20),
            max_failures,
            delay: Millis(50),
            ignore_http_1xx: false,
            protocol: "MESOS_TCP".into(),
        }
    }

    /// Runs checks with these results whenever one is due; gives the health after each.
    fn run(checker: &mut Checker, results: &[bool]) -> Vec<(u64, Health)> {
        results
            .iter()
            .map(|passed| {
                let began = checker.due();
                checker.took(*passed, began, began + Millis(5));
                (began.0, checker.health())
            })
            .collect()
    }

    #[test]
    fn an_instance_is_unhealthy_after_so_many_failures_in_a_row_and_healthy_after_one_success() {
        let mut checker = Checker::new(&check(2), Time(1000), Health::Unknown);
        use Health::{Healthy, Unhealthy};
        assert_eq!(
            run(&mut checker, &[true, false, true, false, false, true]),
            vec![
                (1050, Healthy),
                (1150, Healthy),
                (1250, Healthy),
                (1350, Healthy),
                (1450, Unhealthy),
                (1550, Healthy)
            ]
        );
    }

    #[test]
    fn failures_do_not_count_during_the_grace_until_the_first_success() {
        let mut checker = Checker::new(&check(1), Time(0), Health::Unknown);
        let seen = run(&mut checker, &[false, false, false, false]);
        let healths: Vec<Health> = seen.into_iter().map(|(_, health)| health).collect();
        use Health::{Unhealthy, Unknown};
        assert_eq!(healths, vec![Unknown, Unknown, Unknown, Unhealthy]);

        let mut checker = Checker::new(&check(1), Time(0), Health::Unknown);
        assert_eq!(run(&mut checker, &[true, false])[1], (150, Unhealthy));
    }

    #[test]
    fn with_no_maximum_an_instance_is_never_unhealthy() {
        let mut checker = Checker::new(&check(0), Time(0), Health::Healthy);
        for (_, health) in run(&mut checker, &[false; 20]) {
            assert_eq!(health, Health::Unknown);
        }
    }

    #[test]
    fn a_slow_check_delays_the_next_and_an_agents_restart_is_no_flip() {
        let mut checker = Checker::new(&check(3), Time(0), Health::Healthy);
        assert_eq!(checker.health(), Health::Healthy);
        checker.took(true, Time(50), Time(900));
        assert_eq!(checker.due(), Time(900));
    }

    #[test]
    fn an_instance_is_as_healthy_as_its_worst_check() {
        let with = |health| Checker::new(&check(1), Time(0), health);
        use Health::{Healthy, Unhealthy, Unknown};
        for (a, b, all) in [
            (Healthy, Healthy, Healthy),
            (Healthy, Unknown, Unknown),
            (Unknown, Healthy, Unknown),
            (Unknown, Unhealthy, Unhealthy),
        ] {
            assert_eq!(combined(&[with(a), with(b)]), all);
        }
        assert_eq!(combined(&[]), Unknown);
    }
}
