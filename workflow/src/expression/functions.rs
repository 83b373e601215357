//! The functions and operators that there are, and what they take and give.

use super::syntax::Operator;
use super::types::Type;

/// What to do where a map is added to a list.
pub(super) const KEYS_OF_A_MAP: &str = "; make a list of the map's keys with x.map(k, k)";

/// What a call or a function's name is wrong by.
pub(super) enum Wrong {
    Unknown,
    Call(String),
}

/// A way to call a function: on what (none: it stands alone), with what; what that gives.
struct Form {
    on: Option<Type>,
    takes: Vec<Type>,
    gives: Type,
}

/// Functions, without the loops and `has`.
const FUNCTIONS: [&str; 15] = [
    "always",
    "bool",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "failure",
    "int",
    "machines",
    "matches",
    "size",
    "startsWith",
    "string",
    "success",
    "uint",
];

/// The gates: what they say is of all tasks before.
pub(super) fn is_gate(name: &str) -> bool {
    matches!(name, "success" | "failure" | "always")
}

pub(super) fn is_known(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// With the loops and `has`.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS
        .into_iter()
        .chain(["all", "exists", "exists_one", "filter", "has", "map"])
}

/// What a call gives.
pub(super) fn call(name: &str, on: Option<&Type>, given: &[Type]) -> Result<Type, Wrong> {
    let forms = forms(name);
    if forms.is_empty() {
        return Err(match name {
            "all" | "exists" | "exists_one" | "filter" | "map" => Wrong::Call(format!(
                "{name}() is called on a list or a map: list.{name}(x, …)"
            )),
            "has" => Wrong::Call("has() takes one field: has(x.name)".into()),
            _ => Wrong::Unknown,
        });
    }
    let same_call = |form: &&Form| form.on.is_some() == on.is_some();
    let fits = |form: &&Form| {
        let on_fits = match (&form.on, on) {
            (Some(wanted), Some(on)) => wanted.can_be(on),
            (None, None) => true,
            _ => false,
        };
        on_fits
            && form.takes.len() == given.len()
            && form
                .takes
                .iter()
                .zip(given)
                .all(|(wanted, given)| wanted.can_be(given))
    };
    if let Some(form) = forms.iter().find(fits) {
        return Ok(form.gives.clone());
    }
    if !forms.iter().any(|form| same_call(&form)) {
        return Err(Wrong::Call(match on {
            Some(_) => format!("{name}() stands alone: {name}(…), not x.{name}(…)"),
            None => format!("{name}() is called on a value: x.{name}(…)"),
        }));
    }
    let counts: Vec<usize> = forms
        .iter()
        .filter(same_call)
        .map(|form| form.takes.len())
        .collect();
    if !counts.contains(&given.len()) {
        let wanted = match counts.first() {
            Some(0) | None => "no argument".to_owned(),
            Some(1) => "one argument".to_owned(),
            Some(more) => format!("{more} arguments"),
        };
        return Err(Wrong::Call(format!(
            "{name}() takes {wanted}, not {}",
            given.len()
        )));
    }
    let mut wanted: Vec<String> = forms.iter().filter(same_call).map(Form::arguments).collect();
    wanted.dedup();
    let given: Vec<String> = on.into_iter().chain(given).map(Type::to_string).collect();
    Err(Wrong::Call(format!(
        "no {name}() for {}: it takes {}",
        given.join(" and "),
        wanted.join(" or ")
    )))
}

impl Form {
    fn arguments(&self) -> String {
        let all: Vec<String> = self.on.iter().chain(&self.takes).map(Type::to_string).collect();
        all.join(" and ")
    }
}

fn forms(name: &str) -> Vec<Form> {
    use Type::{Any, Bool, Double, Int, Text, Uint};
    let alone = |takes: &[Type], gives: Type| Form {
        on: None,
        takes: takes.to_vec(),
        gives,
    };
    let on = |on: Type, takes: &[Type], gives: Type| Form {
        on: Some(on),
        takes: takes.to_vec(),
        gives,
    };
    let from = |kinds: &[Type], gives: Type| -> Vec<Form> {
        kinds
            .iter()
            .map(|kind| alone(std::slice::from_ref(kind), gives.clone()))
            .collect()
    };
    let sized = [Text, Type::list(), Type::map()];
    match name {
        "always" | "failure" | "success" => vec![alone(&[], Bool)],
        "bool" => from(&[Bool, Text], Bool),
        "contains" | "endsWith" | "startsWith" => vec![on(Text, &[Text], Bool)],
        "double" => from(&[Double, Int, Uint, Text], Double),
        "dyn" => from(&[Any], Any),
        "int" => from(&[Int, Uint, Double, Text], Int),
        "machines" => vec![alone(&[Text], Type::list())],
        "matches" => vec![on(Text, &[Text], Bool), alone(&[Text, Text], Bool)],
        "size" => sized
            .iter()
            .flat_map(|kind| [alone(std::slice::from_ref(kind), Int), on(kind.clone(), &[], Int)])
            .collect(),
        "string" => from(&[Text, Bool, Int, Uint, Double], Text),
        "uint" => from(&[Uint, Int, Double, Text], Uint),
        _ => Vec::new(),
    }
}

/// What an operator gives, or why it can't be.
pub(super) fn binary(operator: Operator, left: &Type, right: &Type) -> Result<Type, String> {
    use Operator::*;
    let sign = sign(operator);
    let none = |cure: &str| Err(format!("no {sign} for {left} and {right}{cure}"));
    let mixed = if left.is_number() && right.is_number() {
        "; make them of one kind with int(…) or double(…)"
    } else if matches!((left, right), (Type::Text, _) | (_, Type::Text)) && operator == Add {
        "; make a string of the other with string(…)"
    } else if matches!((left, right), (Type::List(_), Type::Map(_) | Type::Object(_))) && operator == Add {
        KEYS_OF_A_MAP
    } else {
        ""
    };
    match operator {
        Equal | NotEqual => {
            if left.can_equal(right) {
                return Ok(Type::Bool);
            }
            let always = operator == NotEqual;
            Err(format!(
                "{left} {sign} {right} is always {always}: compare values of one type"
            ))
        }
        Less | LessOrEqual | Greater | GreaterOrEqual => {
            let ordered =
                |kind: &Type| kind.is_number() || matches!(kind, Type::Any | Type::Text | Type::Bool);
            if ordered(left) && ordered(right) && left.can_equal(right) {
                return Ok(Type::Bool);
            }
            none("")
        }
        In => match right {
            Type::Any => Ok(Type::Bool),
            Type::List(of) if left.can_equal(of) => Ok(Type::Bool),
            Type::List(of) => Err(format!(
                "{left} in a list of {of} is always false: compare values of one type"
            )),
            Type::Map(_) | Type::Object(_) if left.can_be(&Type::Text) => Ok(Type::Bool),
            Type::Map(_) | Type::Object(_) => none("; the keys of a map are strings"),
            _ => none("; it takes a list or a map on its right"),
        },
        Add => match (left, right) {
            (Type::List(left), Type::List(right)) => {
                Ok(Type::List(Box::new((**left).clone().or((**right).clone()))))
            }
            _ => arithmetic(left, right, &[Type::Text]).map_or_else(|| none(mixed), Ok),
        },
        Subtract | Multiply | Divide => arithmetic(left, right, &[]).map_or_else(|| none(mixed), Ok),
        Remainder => match arithmetic(left, right, &[]) {
            Some(Type::Double) | None => none(mixed),
            Some(kind) => Ok(kind),
        },
    }
}

/// The common type of two numbers (or one of `besides`).
fn arithmetic(left: &Type, right: &Type, besides: &[Type]) -> Option<Type> {
    let possible = |kind: &Type| {
        kind.is_number() || besides.contains(kind) || (!besides.is_empty() && matches!(kind, Type::List(_)))
    };
    match (left, right) {
        (Type::Any, Type::Any) => Some(Type::Any),
        (Type::Any, known) | (known, Type::Any) => possible(known).then(|| known.clone()),
        (left, right) => (left == right && possible(left)).then(|| left.clone()),
    }
}

pub(super) fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Divide => "/",
        Operator::Equal => "==",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::In => "in",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Multiply => "*",
        Operator::NotEqual => "!=",
        Operator::Remainder => "%",
        Operator::Subtract => "-",
    }
}
