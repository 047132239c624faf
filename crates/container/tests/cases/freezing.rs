//! Stopping tasks where they are.

use super::*;

const COUNTING: &str =
    "(while :; do echo x >> /beats; done) & (while :; do echo y >> /beats; done) & wait";

pub async fn freezing_stops_every_task_and_thawing_lets_go(world: World) {
    let instance = world.run("a", nothing, COUNTING).await;
    let beats = world.root().join("beats");
    let size = || fs::metadata(&beats).map_or(0, |data| data.len());
    until("a beat", || size() > 0).await;
    instance.freeze().await.expect("freeze");
    let frozen = size();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(size(), frozen);
    instance.thaw().await.expect("thaw");
    until("another beat", || size() > frozen).await;
    // A frozen container can be stopped as well.
    instance.freeze().await.expect("freeze");
    let exit = within(instance.stop(15, Duration::from_millis(100)))
        .await
        .expect("stop");
    assert_eq!(exit.how, How::Signal(9));
    assert!(
        instance.freeze().await.is_err(),
        "nothing is there to freeze"
    );
}

pub async fn killing_frozen_tasks_lets_none_run_on(world: World) {
    let instance = world.run("a", nothing, COUNTING).await;
    let beats = world.root().join("beats");
    let size = || fs::metadata(&beats).map_or(0, |data| data.len());
    let both = || fs::read_to_string(&beats).is_ok_and(|b| b.contains('x') && b.contains('y'));
    until("a beat of both", both).await;
    instance.freeze().await.expect("freeze");
    let (frozen, pids) = (size(), instance.processes().await.expect("processes"));
    assert!(pids.len() >= 3, "{pids:?}");
    within(instance.kill()).await.expect("kill");
    assert_eq!(size(), frozen);
    assert!(!pids.iter().any(|pid| alive(*pid)));
    assert_eq!(
        within(instance.wait()).await.expect("exit").how,
        How::Signal(9)
    );
}
