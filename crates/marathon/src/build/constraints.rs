//! Constraints: operators, their values, and regular expressions that must compile.

use model::spec::{Constraint, Operator};
use regex::RegexBuilder;

use crate::fault::{Faults, did_you_mean};
use crate::shape::{App, Word};

/// Bytes of a compiled expression; the scheduler holds it to the same.
const SIZE_MAX: usize = 1 << 20;

const OPERATORS: [(&str, Operator); 7] = [
    ("UNIQUE", Operator::Unique),
    ("CLUSTER", Operator::Cluster),
    ("GROUP_BY", Operator::GroupBy),
    ("LIKE", Operator::Like),
    ("UNLIKE", Operator::Unlike),
    ("MAX_PER", Operator::MaxPer),
    ("IS", Operator::Is),
];

pub(super) fn read(app: &App, faults: &mut Faults) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    for (index, words) in app.constraints.iter().flatten().enumerate() {
        match constraint(words) {
            Ok(constraint) => constraints.push(constraint),
            Err(fault) => faults.at(format!("/constraints({index})"), fault),
        }
    }
    constraints
}

fn constraint(words: &[Word]) -> Result<Constraint, String> {
    let (field, operator, value) = match words {
        [field, operator] => (field, operator, None),
        [field, operator, value] => (field, operator, Some(&value.0)),
        _ => return Err("a constraint is [field, operator] or [field, operator, value]".into()),
    };
    if field.0.is_empty() {
        return Err("the field must not be empty".into());
    }
    let value = value.filter(|value| !value.is_empty()).cloned();
    let name = operator.0.to_uppercase();
    let operator = OPERATORS.iter().find(|(known, _)| *known == name);
    let Some((_, operator)) = operator else {
        let known = OPERATORS.map(|(known, _)| known);
        return Err(format!(
            "'{name}' is no operator; there are {}{}",
            known.join(", "),
            did_you_mean(&name, known)
        ));
    };
    check_value(*operator, &name, value.as_deref())?;
    Ok(Constraint {
        field: field.0.clone(),
        operator: *operator,
        value,
    })
}

fn check_value(operator: Operator, name: &str, value: Option<&str>) -> Result<(), String> {
    let number = |value: &str| {
        value
            .parse::<u32>()
            .map(drop)
            .map_err(|_| format!("the value of {name} must be a whole number, not '{value}'"))
    };
    match (operator, value) {
        (Operator::Unique, Some(_)) => Err("UNIQUE takes no value".into()),
        (Operator::Like | Operator::Unlike | Operator::MaxPer | Operator::Is, None) => {
            Err(format!("{name} needs a value"))
        }
        (Operator::Like | Operator::Unlike, Some(pattern)) => expression(name, pattern),
        (Operator::MaxPer | Operator::GroupBy, Some(value)) => number(value),
        (Operator::Is, Some(value)) => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
            let fits = value.chars().all(allowed);
            fits.then_some(()).ok_or_else(|| {
                format!("the value of IS must hold letters, digits and '_/.-' only, not '{value}'")
            })
        }
        (Operator::Unique | Operator::Cluster | Operator::GroupBy, None)
        | (Operator::Cluster, Some(_)) => Ok(()),
    }
}

/// Java's expressions have what ours, which always end in linear time, have not.
fn expression(name: &str, pattern: &str) -> Result<(), String> {
    // Alone first: "a)|(b" compiles only in the brackets that make it a full match.
    let compile = |text: &str| RegexBuilder::new(text).size_limit(SIZE_MAX).build();
    let compiled = compile(pattern).and_then(|_| compile(&format!("^(?:{pattern})$")));
    let Err(error) = compiled else {
        return Ok(());
    };
    let said = error.to_string();
    let missing = if said.contains("look-around") {
        "look-around, as in (?=…) and (?!…),"
    } else if said.contains("backreference") {
        r"a back-reference, as in \1,"
    } else if pattern.contains("(?>") {
        "an atomic group, (?>…),"
    } else {
        let reason = said.lines().last().unwrap_or_default();
        let reason = reason.trim_start_matches("error: ");
        return Err(format!(
            "'{pattern}' is no regular expression for {name}: {reason}"
        ));
    };
    Err(format!(
        "{missing} is not supported in the regular expression '{pattern}' of {name}"
    ))
}
