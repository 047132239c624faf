//! The launch queue: what waits for a place or a delay, and why.

use std::collections::BTreeMap;

use model::AppId;
use model::ids::Version;
use model::spec::AppSpec;
use model::time::{Millis, Time};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::app::definition;

/// An app of which instances are still to be started.
#[derive(Clone, Debug)]
pub struct QueueView<'a> {
    pub id: &'a AppId,
    pub spec: &'a AppSpec,
    pub version: Version,
    /// Instances that are still to be started.
    pub count: u32,
    pub since: Time,
    /// Until the backoff ends; zero when it has.
    pub time_left: Millis,
    pub offers: Offers,
    /// `None`: not embedded.
    pub last_unused_offers: Option<Vec<UnusedOffer>>,
}

/// How nodes were weighed, in Marathon's terms: an offer is a node looked at.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    pub processed: u64,
    pub unused: u64,
    pub last_unused_at: Option<Time>,
    pub last_used_at: Option<Time>,
    /// The funnel: each reason takes away some of what the one before left.
    pub rejections: Vec<Rejection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// `UnfulfilledConstraint`, `InsufficientMemory`, …
    pub reason: String,
    pub declined: u64,
    pub processed: u64,
}

/// A node that did not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct UnusedOffer {
    /// The node's name.
    pub agent: String,
    pub hostname: String,
    /// `cpus`, `mem`, `disk`: what is free there.
    pub resources: BTreeMap<String, f64>,
    pub attributes: BTreeMap<String, String>,
    pub reasons: Vec<String>,
    pub timestamp: Time,
}

impl Serialize for QueueView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut item = json!({
            "app": definition(self.id, self.spec, self.version),
            "count": self.count,
            "since": self.since.to_string(),
            "delay": {
                "timeLeftSeconds": self.time_left.0.div_ceil(1000),
                "overdue": self.time_left.0 == 0,
            },
            "processedOffersSummary": self.offers.summary(),
        });
        // Clients ask for it by name and index it: never null.
        if let Some(offers) = &self.last_unused_offers {
            item["lastUnusedOffers"] = offers.iter().map(UnusedOffer::value).collect();
        }
        item.serialize(to)
    }
}

impl Offers {
    fn summary(&self) -> Value {
        let mut summary = json!({
            "processedOffersCount": self.processed,
            "unusedOffersCount": self.unused,
            "rejectSummaryLastOffers": self.rejections,
            "rejectSummaryLaunchAttempt": self.rejections,
        });
        let times = [
            ("lastUnusedOfferAt", self.last_unused_at),
            ("lastUsedOfferAt", self.last_used_at),
        ];
        for (key, time) in times {
            if let Some(time) = time {
                summary[key] = time.to_string().into();
            }
        }
        summary
    }
}

impl UnusedOffer {
    fn value(&self) -> Value {
        let resources = self
            .resources
            .iter()
            .map(|(name, free)| json!({ "name": name, "scalar": free, "role": "*" }));
        let attributes = self
            .attributes
            .iter()
            .map(|(name, text)| json!({ "name": name, "text": text }));
        json!({
            "offer": {
                "id": self.agent,
                "agentId": self.agent,
                "hostname": self.hostname,
                "resources": resources.collect::<Vec<_>>(),
                "attributes": attributes.collect::<Vec<_>>(),
            },
            "reason": self.reasons,
            "timestamp": self.timestamp.to_string(),
        })
    }
}
