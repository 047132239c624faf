//! The cases, each a claim.

use super::*;

mod adoption;
mod ends;
mod exec;
mod freezing;
mod limits;
mod logs;
mod roots;

/// Runs every case whose name contains `filter`, one after the other.
pub async fn all(filter: &str) -> ExitCode {
    let mut failed = 0;
    macro_rules! run {
        ($($group:ident :: $case:ident),* $(,)?) => {$(
            let name = stringify!($case);
            if name.contains(filter) {
                let began = Instant::now();
                let outcome = tokio::spawn($group::$case(World::new())).await;
                let word = if outcome.is_ok() { "ok" } else { failed += 1; "FAILED" };
                println!("{word:6} {name} ({} ms)", began.elapsed().as_millis());
            }
        )*};
    }
    run!(
        ends::an_exit_code_is_recorded,
        ends::a_signal_death_is_told_from_a_code,
        ends::a_missing_command_is_127_and_an_unexecutable_one_126,
        ends::a_container_may_be_dropped_before_its_start,
        ends::an_oom_kill_is_counted,
        ends::stop_kills_after_the_grace_what_ignores_the_signal,
        ends::stop_is_gentle_with_what_listens,
        logs::the_log_is_whole_when_shims_are_killed,
        adoption::the_end_is_known_when_shim_and_container_die_together,
        adoption::a_killed_fork_server_takes_nothing_along,
        adoption::an_agent_finds_its_container_after_its_own_death,
        adoption::an_agent_finds_unknown_what_ended_unseen,
        adoption::an_agents_death_before_the_start_ends_the_container,
        freezing::freezing_stops_every_task_and_thawing_lets_go,
        freezing::killing_frozen_tasks_lets_none_run_on,
        exec::exec_answers_with_code_and_output,
        exec::exec_is_killed_when_nobody_waits,
        exec::exec_on_a_terminal_knows_its_size,
        limits::defaults_are_dockers,
        limits::new_privileges_can_be_allowed,
        limits::the_number_of_processes_is_limited,
        limits::quota_and_memory_limits_are_written,
        roots::a_command_task_sees_the_node_and_owns_its_sandbox,
        roots::mounts_are_made_parents_first,
        logs::a_user_may_open_standard_output_by_name,
        logs::logs_rotate,
        logs::a_full_disk_neither_blocks_nor_hides_the_end,
        adoption::sweep_kills_what_nobody_claims,
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn nothing(_: &mut Spec) {}
