//! What an instance of an app asks of a node, compiled once per version of the app.

use std::sync::Arc;

use model::AppSpec;
use model::ids::AppId;
use model::spec::{Constraint, DEFAULT_CAPABILITIES, MountSource, Operator};
use regex::{Regex, RegexBuilder};

/// An app's needs, ready to be held against many nodes.
#[derive(Clone, Debug)]
pub struct Wish {
    pub app: AppId,
    pub spec: Arc<AppSpec>,
    pub(crate) rules: Vec<Rule>,
    /// What a node's `[agent] allow` must name.
    pub(crate) permissions: Vec<String>,
}

/// A constraint whose value has been read.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub field: String,
    pub test: Test,
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Unique,
    /// The value wanted; `None`: the first placed instance's.
    Cluster(Option<String>),
    Like(Regex, String),
    Unlike(Regex, String),
    Is(String),
    MaxPer(u32),
    GroupBy(Option<u32>),
}

/// Why a constraint can hold on no node.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[error("constraint {index} ({field} {operator:?}) {kind}")]
pub struct ConstraintFault {
    /// Which of the app's constraints, from 0.
    pub index: usize,
    pub field: String,
    pub operator: Operator,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum FaultKind {
    #[error("needs a value")]
    ValueWanted,
    #[error("needs a whole number as its value, not '{0}'")]
    NumberWanted(String),
    #[error("may hold only letters, digits, '_', '/', '.' and '-' in its value, not '{0}'")]
    TextWanted(String),
    #[error("uses a {construct}, which Java's expressions have and Tandem's lack, in '{pattern}'")]
    JavaOnly {
        construct: &'static str,
        pattern: String,
    },
    #[error("has no valid regular expression in '{pattern}'")]
    Pattern {
        pattern: String,
        source: regex::Error,
    },
}

impl Wish {
    /// Compiles the spec's constraints, or says which of them cannot be.
    pub fn compile(app: &AppId, spec: &Arc<AppSpec>) -> Result<Self, ConstraintFault> {
        let rules = spec.constraints.iter().enumerate();
        let rules = rules.map(|(index, constraint)| {
            let test = read(constraint).map_err(|kind| ConstraintFault {
                index,
                field: constraint.field.clone(),
                operator: constraint.operator,
                kind,
            })?;
            Ok(Rule {
                field: constraint.field.clone(),
                test,
            })
        });
        Ok(Self {
            app: app.clone(),
            spec: Arc::clone(spec),
            rules: rules.collect::<Result<_, _>>()?,
            permissions: permissions(spec),
        })
    }

    /// What a node's `[agent] allow` must name for this app, beyond what every node allows:
    /// `privileged`, capabilities, host paths.
    pub fn permissions(&self) -> &[String] {
        &self.permissions
    }

    /// Whether constraints count where the app's own instances are.
    pub fn counts(&self) -> bool {
        self.rules.iter().any(Rule::counts)
    }
}

fn permissions(spec: &AppSpec) -> Vec<String> {
    let mut wanted = Vec::new();
    if let Some(image) = spec.image() {
        wanted.extend(image.privileged.then(|| "privileged".to_owned()));
        let extra = image.options.cap_add.iter();
        wanted.extend(
            extra
                .filter(|cap| !DEFAULT_CAPABILITIES.contains(&cap.as_str()))
                .cloned(),
        );
    }
    wanted.extend(spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Host(path) => Some(path.clone()),
        MountSource::Volume { .. } => None,
    }));
    wanted
}

fn read(constraint: &Constraint) -> Result<Test, FaultKind> {
    let value = constraint.value.as_deref().filter(|v| !v.is_empty());
    let wanted = value.ok_or(FaultKind::ValueWanted);
    let number = |text: &str| {
        let fault = || FaultKind::NumberWanted(text.to_owned());
        text.parse::<u32>().map_err(|_| fault())
    };
    Ok(match constraint.operator {
        Operator::Unique => Test::Unique,
        Operator::Cluster => Test::Cluster(value.map(str::to_owned)),
        Operator::Like => Test::Like(full_match(wanted?)?, value.unwrap_or_default().to_owned()),
        Operator::Unlike => {
            Test::Unlike(full_match(wanted?)?, value.unwrap_or_default().to_owned())
        }
        Operator::Is => Test::Is(plain(wanted?)?),
        Operator::MaxPer => Test::MaxPer(number(wanted?)?),
        Operator::GroupBy => Test::GroupBy(value.map(number).transpose()?.filter(|n| *n > 0)),
    })
}

fn plain(text: &str) -> Result<String, FaultKind> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-');
    match text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(FaultKind::TextWanted(text.to_owned())),
    }
}

/// An expression that matches only a whole value, as Java's `matches` does.
fn full_match(pattern: &str) -> Result<Regex, FaultKind> {
    if let Some(construct) = java_only(pattern) {
        return Err(FaultKind::JavaOnly {
            construct,
            pattern: pattern.to_owned(),
        });
    }
    let compile = |text: &str| {
        let regex = RegexBuilder::new(text).size_limit(1 << 20).build();
        regex.map_err(|source| FaultKind::Pattern {
            pattern: pattern.to_owned(),
            source,
        })
    };
    // By itself first: `a)(b` is no expression, but would become one inside a group.
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

/// The first construct that only Java's expressions have.
fn java_only(pattern: &str) -> Option<&'static str> {
    let text: Vec<char> = pattern.chars().collect();
    let (mut at, mut in_class, mut after_quantifier) = (0, 0_u32, false);
    while at < text.len() {
        let next = |n: usize| text.get(at + n).copied().unwrap_or('\0');
        let quantifier = in_class == 0 && matches!(text[at], '*' | '+' | '?' | '}');
        match text[at] {
            '\\' => {
                match next(1) {
                    '1'..='9' | 'k' => return Some("back-reference"),
                    'Q' => return Some("quoted section"),
                    _ => {}
                }
                at += 1;
            }
            '[' => in_class += 1,
            ']' => in_class = in_class.saturating_sub(1),
            '(' if in_class == 0 && next(1) == '?' => match (next(2), next(3)) {
                ('=' | '!', _) => return Some("look-ahead"),
                ('<', '=' | '!') => return Some("look-behind"),
                ('>', _) => return Some("atomic group"),
                // The question mark belongs to the group, not to a quantifier.
                _ => at += 1,
            },
            '+' if after_quantifier && in_class == 0 => return Some("possessive quantifier"),
            _ => {}
        }
        after_quantifier = quantifier && !after_quantifier;
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraint(operator: Operator, value: &str) -> Constraint {
        Constraint {
            field: "disk".into(),
            operator,
            value: Some(value.into()),
        }
    }

    #[test]
    fn what_only_java_has_is_refused_by_name() {
        for (pattern, construct) in [
            ("(?=a)b", "look-ahead"),
            ("a(?!b)", "look-ahead"),
            ("(?<=a)b", "look-behind"),
            ("(?<!a)b", "look-behind"),
            (r"(a)\1", "back-reference"),
            (r"(?<x>a)\k<x>", "back-reference"),
            ("a*+", "possessive quantifier"),
            ("a++b", "possessive quantifier"),
            ("a{2}+", "possessive quantifier"),
            ("(?>a)", "atomic group"),
            (r"\Qa.b\E", "quoted section"),
        ] {
            assert_eq!(java_only(pattern), Some(construct), "{pattern}");
        }
        for pattern in [
            "a+?", "(?:a)+", "(?i)a", r"\+\++", "[+*]+", "(?<x>a)", r"a\\+", "a*b+",
        ] {
            assert_eq!(java_only(pattern), None, "{pattern}");
            assert!(full_match(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn an_expression_must_match_the_whole_value() {
        let regex = full_match("a|bc").unwrap();
        assert!(regex.is_match("a") && regex.is_match("bc"));
        assert!(!regex.is_match("ac") && !regex.is_match("abc") && !regex.is_match("a\n"));
        assert!(matches!(full_match("a)(b"), Err(FaultKind::Pattern { .. })));
    }

    #[test]
    fn values_that_an_operator_cannot_use_are_faults() {
        let fault = |operator, value| read(&constraint(operator, value)).unwrap_err();
        assert_eq!(fault(Operator::Like, ""), FaultKind::ValueWanted);
        assert_eq!(
            fault(Operator::MaxPer, "two"),
            FaultKind::NumberWanted("two".into())
        );
        assert_eq!(
            fault(Operator::Is, "a b"),
            FaultKind::TextWanted("a b".into())
        );
        assert!(matches!(
            read(&constraint(Operator::Cluster, "")),
            Ok(Test::Cluster(None))
        ));
        assert!(matches!(
            read(&constraint(Operator::Unique, "")),
            Ok(Test::Unique)
        ));
    }
}
