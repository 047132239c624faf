//! The wire: connections that deliver in order or break; now and then something is said again,
//! late. What is said to or by a machine that is cut off waits, as TCP's retransmissions do, and
//! arrives late if both ends still live.

use model::{Millis, Time};

use super::{Event, World};
use crate::machine::Said;

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub machine: usize,
    pub agent_run: u64,
    pub master_run: u64,
    /// When the last words of agent and master arrive.
    last: [Time; 2],
}

impl World {
    /// A new connection from a machine's agent, unless nobody answers.
    pub(super) fn connect(&mut self, machine: usize) -> Option<u64> {
        let paper = &self.machines[machine];
        if paper.unheard || self.master.is_none() {
            return None;
        }
        let connection = Connection {
            machine,
            agent_run: paper.run,
            master_run: self.master_run,
            last: [self.now; 2],
        };
        self.queued += 1;
        let number = self.queued;
        self.connections.insert(number, connection);
        Some(number)
    }

    pub(super) fn say(&mut self, number: u64, said: Said) {
        let latency = self.pace.span(1);
        let twice = self.pace.mishap(5);
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let last = &mut connection.last[usize::from(matches!(said, Said::ByMaster(_)))];
        *last = (*last).max(self.now + latency);
        let wait = *last - self.now;
        if twice {
            let said = said.clone();
            let later = self.pace.span(200);
            self.after(
                Millis(wait.0 + later.0),
                Event::Arrives {
                    connection: number,
                    said,
                },
            );
        }
        self.after(
            wait,
            Event::Arrives {
                connection: number,
                said,
            },
        );
    }

    pub(super) fn arrives(&mut self, number: u64, said: Said) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let paper = &mut self.machines[connection.machine];
        if paper.unheard {
            paper.held.push_back((number, said));
            return;
        }
        let (machine, agent_run, master_run) = (
            connection.machine,
            connection.agent_run,
            connection.master_run,
        );
        match said {
            Said::ByMaster(message) if paper.run == agent_run => {
                self.agent_hears(machine, number, message);
            }
            Said::ByAgent(message) if self.master.is_some() && self.master_run == master_run => {
                self.master_hears(machine, number, message);
            }
            // Nobody is there: the other end is told.
            Said::ByMaster(_) => drop(self.connections.remove(&number)),
            Said::ByAgent(_) => self.close(number),
        }
    }

    /// The master's end closes.
    pub(super) fn close(&mut self, connection: u64) {
        let latency = self.pace.span(1);
        self.after(latency, Event::Closed { connection });
    }

    pub(super) fn closed(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let machine = connection.machine;
        if self.machines[machine].unheard {
            // The agent finds out by the silence.
            return;
        }
        self.connections.remove(&number);
        if let Some(agent) = &mut self.machines[machine].agent
            && agent.connection == Some(number)
        {
            agent.connection = None;
            agent.session.lost();
            self.pump(machine);
        }
    }

    pub(super) fn close_all(&mut self) {
        let all: Vec<u64> = self.connections.keys().copied().collect();
        for number in all {
            self.close(number);
        }
    }

    pub fn cut(&mut self, machine: usize) {
        self.machines[machine].cut = true;
        self.cut_from_master(machine);
    }

    /// Other machines still reach it.
    pub fn cut_from_master(&mut self, machine: usize) {
        self.machines[machine].unheard = true;
    }

    pub fn heal(&mut self, machine: usize) {
        let paper = &mut self.machines[machine];
        paper.cut = false;
        paper.unheard = false;
        for (connection, said) in std::mem::take(&mut paper.held) {
            self.after(model::Millis(1), Event::Arrives { connection, said });
        }
    }
}
