//! Marathon's endpoints, as its clients call them.

pub mod apps;
mod deployments;
pub mod events;
mod info;
pub mod queue;
mod tasks;
mod views;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::Context;

pub fn routes() -> Router<Context> {
    let all_apps = || {
        get(apps::list)
            .post(apps::create)
            .put(apps::put_many)
            .patch(apps::patch_many)
    };
    let one_app = get(apps::read)
        .post(apps::act)
        .put(apps::put)
        .patch(apps::patch)
        .delete(apps::remove);
    Router::new()
        .route("/v2/apps", all_apps())
        .route("/v2/apps/", all_apps())
        // Ids hold slashes, so what follows them is told apart by `apps::Target`.
        .route("/v2/apps/{*path}", one_app)
        .route("/v2/tasks", get(tasks::list))
        .route("/v2/tasks/", get(tasks::list))
        .route("/v2/tasks/delete", post(tasks::kill_many))
        .route("/v2/deployments", get(deployments::list))
        .route("/v2/deployments/", get(deployments::list))
        .route("/v2/deployments/{id}", delete(deployments::cancel))
        .route("/v2/queue", get(queue::list))
        .route("/v2/queue/", get(queue::list))
        .route("/v2/queue/{*path}", delete(queue::reset_delay))
        .route("/v2/events", get(events::follow))
        .route("/v2/info", get(info::info))
        .route("/v2/leader", get(info::leader))
        .route("/ping", get(info::ping))
}
