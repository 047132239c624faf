//! The whole thing: the real binary, its cluster on the real kernel, real clients.
//!
//! Every case runs in a machine of its own (`room`). They come in the order in which a user meets
//! what they show; the letters are those of the issue that asked for them.

// Test code throughout, though no function carries the attribute that clippy looks for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster;
mod commands;
mod crashes;
mod databases;
mod docker;
mod events;
mod images;
mod ledger;
mod mistakes;
mod moves;
mod network;
mod python;
mod recover;
mod registry;
#[path = "../../../../crates/local/tests/machine/room.rs"]
mod room;
mod three_tiers;
mod watch;
mod wild;

use cluster::Cluster;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    room::main(&room::Suite {
        name: "tandem-system-test",
        patience: Duration::from_secs(500),
        prepare: python::prepare,
        furnish: Cluster::furnish,
        cases: room::cases![
            mistakes::up_names_what_is_in_its_way_and_leaves_it_alone,
            commands::a_command_is_run_logged_replaced_scaled_restarted_and_stopped,
            commands::the_same_file_put_twice_changes_nothing,
            events::an_app_s_life_is_told_in_its_order,
            commands::what_lies_beneath_is_shown,
            crashes::agent_master_and_shim_may_die_at_any_moment,
            crashes::everything_may_die_and_down_leaves_nothing,
            docker::it_lives_beside_docker,
            crashes::a_dead_node_is_replaced_and_comes_back,
            network::thirty_containers_reach_each_other_by_name_and_address,
            mistakes::mistakes_are_told_and_no_daemon_minds,
            images::what_is_wrong_with_an_app_is_said_in_words,
            images::an_image_goes_when_the_disk_asks_for_it_and_never_one_in_use,
            images::ports_and_fixed_addresses_are_reached,
            registry::skopeo_and_buildah_push_and_pull_and_trouble_is_told,
            wild::definitions_run_as_their_authors_wrote_them,
            moves::a_database_moves_with_its_data,
            databases::nothing_acknowledged_is_lost_in_five_moves,
            databases::nothing_acknowledged_is_lost_when_a_move_s_parties_die,
            recover::a_volume_goes_on_with_its_last_copy_when_its_node_is_lost,
            recover::a_move_to_a_node_without_room_is_refused_with_the_figures,
            python::marathon_s_python_client_works,
        ],
    })
}
