//! Query parameters of `GET /v2/apps`: filters, label selectors, what to embed.

use model::AppId;
use model::spec::{AppSpec, Command};

use std::collections::BTreeMap;

/// What to embed in answers. Counts and deployments always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embed {
    pub tasks: bool,
    pub last_task_failure: bool,
    pub task_stats: bool,
    pub readiness: bool,
}

impl Embed {
    /// From the values of every `embed` parameter; unknown ones are ignored.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut embed = Self::default();
        for value in values {
            let bare = ["group.apps.", "apps.", "app."]
                .iter()
                .find_map(|prefix| value.strip_prefix(prefix))
                .unwrap_or(value);
            match bare {
                "tasks" => embed.tasks = true,
                "lastTaskFailure" => embed.last_task_failure = true,
                "failures" => {
                    embed.tasks = true;
                    embed.last_task_failure = true;
                }
                "taskStats" => embed.task_stats = true,
                "readiness" => embed.readiness = true,
                _ => {}
            }
        }
        embed
    }
}

/// Which apps to list. Without any part, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Part of the command, in any case.
    pub cmd: Option<String>,
    /// Part of the id, in any case.
    pub id: Option<String>,
    pub label: Option<Selector>,
}

impl Filter {
    pub fn matches(&self, id: &AppId, spec: &AppSpec) -> bool {
        let holds = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
        let cmd = match &spec.command {
            Command::Shell(line) => line,
            Command::Image | Command::Args(_) => "",
        };
        self.cmd.as_ref().is_none_or(|part| holds(cmd, part))
            && self.id.as_ref().is_none_or(|part| holds(id.as_str(), part))
            && self
                .label
                .as_ref()
                .is_none_or(|label| label.matches(&spec.labels))
    }
}

/// `a, b==c, d!=e, f in (g,h), i notin (j)`: all must hold. A label that an app lacks never
/// matches, not even `!=`. A backslash takes the next character as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Demand>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Demand {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Present,
    In(Vec<String>),
    NotIn(Vec<String>),
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is no label selector: {reason} expected near character {at}")]
pub struct ParseSelector {
    text: String,
    reason: &'static str,
    at: usize,
}

impl Selector {
    pub fn parse(text: &str) -> Result<Self, ParseSelector> {
        let mut reader = Reader {
            rest: text.chars().collect(),
            at: 0,
        };
        let mut demands = Vec::new();
        let outcome = loop {
            match reader.demand() {
                Ok(demand) => demands.push(demand),
                Err(reason) => break Err(reason),
            }
            reader.skip_spaces();
            if reader.at == reader.rest.len() {
                break Ok(());
            }
            if !reader.take(",") {
                break Err("a comma");
            }
        };
        outcome
            .map(|()| Self(demands))
            .map_err(|reason| ParseSelector {
                text: text.to_owned(),
                reason,
                at: reader.at + 1,
            })
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|demand| {
            labels
                .get(&demand.key)
                .is_some_and(|value| match &demand.test {
                    Test::Present => true,
                    Test::In(values) => values.contains(value),
                    Test::NotIn(values) => !values.contains(value),
                })
        })
    }
}

struct Reader {
    rest: Vec<char>,
    at: usize,
}

impl Reader {
    fn demand(&mut self) -> Result<Demand, &'static str> {
        let key = self.word().ok_or("a label")?;
        self.skip_spaces();
        let test = if self.take("==") {
            Test::In(vec![self.word().ok_or("a value")?])
        } else if self.take("!=") {
            Test::NotIn(vec![self.word().ok_or("a value")?])
        } else if self.at == self.rest.len() || self.rest[self.at] == ',' {
            Test::Present
        } else {
            match self.word().as_deref() {
                Some("in") => Test::In(self.set()?),
                Some("notin") => Test::NotIn(self.set()?),
                _ => return Err("==, !=, in or notin"),
            }
        };
        Ok(Demand { key, test })
    }

    fn set(&mut self) -> Result<Vec<String>, &'static str> {
        self.skip_spaces();
        if !self.take("(") {
            return Err("an opening parenthesis");
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word().ok_or("a value")?);
            self.skip_spaces();
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err("a comma or a closing parenthesis");
            }
        }
    }

    fn word(&mut self) -> Option<String> {
        self.skip_spaces();
        let mut word = String::new();
        while let Some(next) = self.rest.get(self.at) {
            match next {
                '\\' => {
                    self.at += 1;
                    word.push(*self.rest.get(self.at)?);
                }
                '=' | '!' | ',' | '(' | ')' => break,
                c if c.is_whitespace() => break,
                c => word.push(*c),
            }
            self.at += 1;
        }
        (!word.is_empty()).then_some(word)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = token
            .chars()
            .enumerate()
            .all(|(i, c)| self.rest.get(self.at + i) == Some(&c));
        if found {
            self.at += token.chars().count();
        }
        found
    }

    fn skip_spaces(&mut self) {
        while self.rest.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("env", "prod"), ("tier", "web"), ("odd key", "a,b")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    #[test]
    fn selectors_demand_all_and_absent_labels_never_match() {
        for (text, expected) in [
            ("env", true),
            ("env==prod", true),
            ("env == prod , tier==web", true),
            ("env!=prod", false),
            ("absent!=x", false),
            ("absent", false),
            ("env in (test, prod)", true),
            ("env notin (test,stage)", true),
            ("env notin (prod)", false),
            ("env,tier==db", false),
            (r"odd\ key==a\,b", true),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_place() {
        for bad in [
            "", ",", "a==", "a in", "a in (", "a in ()", "a of b", "a=b", "(", "a\\", "a==b c",
        ] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        let error = Selector::parse("a of b").unwrap_err().to_string();
        assert!(error.contains("==, !=, in or notin"), "{error}");
    }

    #[test]
    fn embeds_are_known_with_and_without_prefix() {
        let embed = Embed::parse(["apps.tasks", "app.taskStats", "readiness", "what"]);
        assert_eq!(
            embed,
            Embed {
                tasks: true,
                task_stats: true,
                readiness: true,
                last_task_failure: false
            }
        );
        assert!(Embed::parse(["group.apps.failures"]).tasks);
    }
}
