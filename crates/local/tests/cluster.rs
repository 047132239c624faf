//! Whole clusters with stand-in roles, on the real kernel.
//!
//! Every test runs in a machine of its own: namespaces with their own processes,
//! mounts, links and ports, and a neighbour `192.0.2.1` behind a default route. So
//! a test can kill anything and compare listings while others work on the same
//! computer, and nothing survives it. Only cgroups are shared, under a name of
//! its own. This binary is the tests, their machine, and what `up` re-enters.

// Test code throughout, though no function carries the attribute that clippy looks for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;
mod machine;

use std::process::ExitCode;

type Case = (&'static str, fn(&machine::Machine));

const CASES: [Case; 11] = [
    (
        "nodes_reach_each_other_the_machine_and_outside_and_down_leaves_nothing",
        cases::nodes_reach_each_other_the_machine_and_outside_and_down_leaves_nothing,
    ),
    (
        "an_agent_is_started_again_and_what_it_started_lives_on",
        cases::an_agent_is_started_again_and_what_it_started_lives_on,
    ),
    (
        "a_node_dies_with_everything_in_it_and_comes_back",
        cases::a_node_dies_with_everything_in_it_and_comes_back,
    ),
    (
        "a_node_with_frozen_tasks_still_dies",
        cases::a_node_with_frozen_tasks_still_dies,
    ),
    (
        "everything_ends_with_the_supervisor_and_down_or_up_clean_up_after_it",
        cases::everything_ends_with_the_supervisor_and_down_or_up_clean_up_after_it,
    ),
    (
        "a_second_up_says_that_it_runs_or_adds_what_is_missing",
        cases::a_second_up_says_that_it_runs_or_adds_what_is_missing,
    ),
    (
        "what_is_in_the_way_is_named_and_nothing_is_changed",
        cases::what_is_in_the_way_is_named_and_nothing_is_changed,
    ),
    (
        "docker_s_chain_lets_nodes_through_while_the_cluster_is_up",
        cases::docker_s_chain_lets_nodes_through_while_the_cluster_is_up,
    ),
    (
        "loop_devices_and_mounts_of_a_node_go_with_the_cluster",
        cases::loop_devices_and_mounts_of_a_node_go_with_the_cluster,
    ),
    (
        "the_registry_answers_on_both_addresses",
        cases::the_registry_answers_on_both_addresses,
    ),
    (
        "term_in_the_foreground_is_down_and_purge_takes_only_our_directory",
        cases::term_in_the_foreground_is_down_and_purge_takes_only_our_directory,
    ),
];

fn main() -> ExitCode {
    if let Some(ended) = local::reexec() {
        return ended;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["machine", name, base] => machine::build(name, base),
        ["machine-init", name, base] => machine::init(name, base),
        ["machine-case", name, base] => {
            let (_, case) = CASES
                .iter()
                .find(|(known, _)| known == name)
                .expect("asked for by this binary");
            case(&machine::Machine::new(base));
            ExitCode::SUCCESS
        }
        ["foreground", options] => cases::foreground(options),
        _ => all(&words),
    }
}

/// Arguments that are no flags choose cases by a part of their names, as usual.
fn all(words: &[&str]) -> ExitCode {
    if words.contains(&"--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: clusters need root");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen = CASES
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|part| name.contains(**part)));
    let failed: Vec<&str> = chosen
        .map(|(name, _)| *name)
        .filter(|name| !machine::run(name))
        .collect();
    failed.iter().for_each(|name| println!("failed: {name}"));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
