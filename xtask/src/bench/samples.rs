//! Samples, as the measuring programs print them: one JSON object a line, among other lines.
//!
//! ```text
//! {"figure":"start.wall","of":"ours","value":0.0131}
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// All samples of each figure, ours and others'.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<(String, String), Vec<f64>>);

#[derive(Deserialize)]
struct Sample {
    figure: String,
    of: String,
    value: f64,
}

impl Samples {
    /// Adds what a program printed.
    pub fn read(&mut self, text: &str) -> anyhow::Result<()> {
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let sample: Sample = serde_json::from_str(line)?;
            self.add(&sample.figure, &sample.of, sample.value);
        }
        Ok(())
    }

    /// Adds what the program said that measures Docker Swarm. What it lacks was not measured.
    pub fn swarm(&mut self, value: &Value) {
        let memory = |part: &str| Some(value["memory_idle"][part]["pss"].as_f64()? / nodes(value));
        let daemons = memory("dockerd").and_then(|d| Some(d + memory("containerd")?));
        let per_container = &value["memory_per_container"]["daemons_and_shims_pss"];
        for (figure, of, found) in [
            ("scale", "swarm", value["scale_up"]["seconds"].as_f64()),
            ("up", "swarm", value["form_swarm"].as_f64()),
            ("memory.agent", "swarm", daemons),
            ("memory.shim", "swarm", per_container.as_f64()),
            (
                "start.wall",
                "docker run",
                value["docker_run"]["median"].as_f64(),
            ),
        ] {
            if let Some(found) = found {
                self.add(figure, of, found);
            }
        }
    }

    fn add(&mut self, figure: &str, of: &str, value: f64) {
        let key = (figure.to_owned(), of.to_owned());
        self.0.entry(key).or_default().push(value);
    }

    /// The median, where there is any.
    pub fn median(&self, figure: &str, of: &str) -> Option<f64> {
        let mut values = self.0.get(&(figure.to_owned(), of.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            0 => Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0),
            _ => values.get(middle).copied(),
        }
    }
}

fn nodes(value: &Value) -> f64 {
    value["nodes"].as_f64().unwrap_or(1.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_of_each_side_by_itself() {
        let mut samples = Samples::default();
        let text = "noise\n\
                    {\"figure\":\"tcp\",\"of\":\"ours\",\"value\":3.0}\n\
                    {\"figure\":\"tcp\",\"of\":\"ours\",\"value\":1.0}\n\
                    {\"figure\":\"tcp\",\"of\":\"ours\",\"value\":9.0}\n\
                    {\"figure\":\"tcp\",\"of\":\"vxlan\",\"value\":4.0}\n\
                    {\"figure\":\"tcp\",\"of\":\"vxlan\",\"value\":6.0}\n";
        samples.read(text).unwrap();
        assert_eq!(samples.median("tcp", "ours"), Some(3.0));
        assert_eq!(samples.median("tcp", "vxlan"), Some(5.0));
        assert_eq!(samples.median("dns", "ours"), None);
    }
}
