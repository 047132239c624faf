//! `/v2/info`: which Marathon this speaks as, and the settings that clients look at.

use model::spec::AppSpec;
use serde::{Serialize, Serializer};
use serde_json::json;

/// The Marathon whose API this is; clients compare it with what they need.
const VERSION: &str = "1.10.17";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoView {
    /// The cluster.
    pub framework_id: String,
    /// `host:port` of the leader.
    pub leader: String,
    pub elected: bool,
    pub hostname: String,
    pub http_port: u16,
    /// Service ports, inclusive.
    pub service_ports: (u16, u16),
    /// Tandem's own version.
    pub build: String,
}

impl Serialize for InfoView {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        json!({
            "name": "marathon",
            "version": VERSION,
            "buildref": self.build,
            "elected": self.elected,
            "leader": self.leader,
            "frameworkId": self.framework_id,
            "marathon_config": {
                "checkpoint": true,
                "executor": "//cmd",
                "framework_name": "marathon",
                "ha": true,
                "hostname": self.hostname,
                "local_port_min": self.service_ports.0,
                "local_port_max": self.service_ports.1,
                "mesos_role": AppSpec::default().role,
                "webui_url": null,
                "features": [],
            },
            "zookeeper_config": {},
            "http_config": {
                "http_port": self.http_port,
                "https_port": null,
                "assets_path": null,
            },
        })
        .serialize(to)
    }
}
