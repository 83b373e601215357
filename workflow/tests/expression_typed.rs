//! Random expressions that are right by their types, over random values: our evaluation against the library's, and against
//! the type that the checker gives.

mod library;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use workflow::expression::{self, Scope, Type, Types};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bool,
    Double,
    Int,
    Numbers,
    Tags,
    Text,
    Texts,
    Uint,
}

const KINDS: [Kind; 8] = [
    Kind::Bool,
    Kind::Double,
    Kind::Int,
    Kind::Numbers,
    Kind::Tags,
    Kind::Text,
    Kind::Texts,
    Kind::Uint,
];

impl Kind {
    fn of_type(self) -> Type {
        match self {
            Kind::Bool => Type::Bool,
            Kind::Double => Type::Double,
            Kind::Int => Type::Int,
            Kind::Numbers => Type::List(Box::new(Type::Int)),
            Kind::Tags => Type::Map(Box::new(Type::Int)),
            Kind::Text => Type::Text,
            Kind::Texts => Type::List(Box::new(Type::Text)),
            Kind::Uint => Type::Uint,
        }
    }

    fn input(self) -> &'static str {
        match self {
            Kind::Bool => "inputs.on",
            Kind::Double => "inputs.x",
            Kind::Int => "inputs.n",
            Kind::Numbers => "inputs.numbers",
            Kind::Tags => "inputs.tags",
            Kind::Text => "inputs.name",
            Kind::Texts => "inputs.names",
            Kind::Uint => "inputs.big",
        }
    }
}

/// An expression that is made from bytes: the same from the same, a smaller one from fewer.
struct Writer<'b> {
    bytes: &'b [u8],
    loops: usize,
    bound: Vec<(String, Kind)>,
}

impl Writer<'_> {
    fn choose(&mut self, of: usize) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        usize::from(*first) % of
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[self.choose(texts.len())].to_owned()
    }

    fn leaf(&mut self, kind: Kind) -> String {
        let bound: Vec<String> = self
            .bound
            .iter()
            .filter(|(_, of)| *of == kind)
            .map(|(name, _)| name.clone())
            .collect();
        if !bound.is_empty() && self.choose(3) > 0 {
            return bound[self.choose(bound.len())].clone();
        }
        if self.choose(2) == 0 {
            return kind.input().to_owned();
        }
        match kind {
            Kind::Bool => self.one_of(&["true", "false"]),
            Kind::Double => self.one_of(&["0.5", "0.0", "-1e3", "9007199254740993.0", "1e300"]),
            Kind::Int => self.one_of(&["0", "1", "-3", "2", "9223372036854775807", "-9223372036854775808"]),
            Kind::Numbers => self.one_of(&["[]", "[1, 2, 3]", "[-1]"]),
            // With keys that are no literals, of which it is known that they are there or not.
            Kind::Tags => self.one_of(&["{'a' + '': 1}", "{'b' + '': 2, 'a' + '': 0}"]),
            Kind::Text => self.one_of(&["''", "'a'", "'é'", "'12'", "'node-7'"]),
            Kind::Texts => self.one_of(&["['a']", "['b', '', 'a']"]),
            Kind::Uint => self.one_of(&["0u", "7u", "18446744073709551615u"]),
        }
    }

    fn of(&mut self, kind: Kind, depth: usize) -> String {
        if depth == 0 || self.bytes.is_empty() {
            return self.leaf(kind);
        }
        let down = depth - 1;
        let choice = self.choose(12);
        if choice == 0 {
            return self.leaf(kind);
        }
        if choice == 1 {
            let (condition, then, otherwise) = (
                self.of(Kind::Bool, down),
                self.of(kind, down),
                self.of(kind, down),
            );
            return format!("({condition} ? {then} : {otherwise})");
        }
        match kind {
            Kind::Bool => self.bool(choice, down),
            Kind::Int => match choice {
                2 => format!("size({})", self.of(Kind::Text, down)),
                3 => format!("{}.size()", self.of(Kind::Numbers, down)),
                4 => format!("size({})", self.of(Kind::Tags, down)),
                5 => format!("int({})", self.of(Kind::Double, down)),
                6 => format!("int({})", self.of(Kind::Text, down)),
                7 => format!("{}[{}]", self.of(Kind::Numbers, down), self.of(Kind::Int, down)),
                8 => format!("{}[{}]", self.of(Kind::Tags, down), self.of(Kind::Text, down)),
                9 => format!("-({})", self.of(Kind::Int, down)),
                _ => self.sum(Kind::Int, &["+", "-", "*", "/", "%"], down),
            },
            Kind::Uint => match choice {
                2 => format!("uint({})", self.of(Kind::Int, down)),
                3 => format!("uint({})", self.of(Kind::Double, down)),
                4 => format!("uint({})", self.of(Kind::Text, down)),
                _ => self.sum(Kind::Uint, &["+", "-", "*", "/", "%"], down),
            },
            Kind::Double => match choice {
                2 => format!("double({})", self.of(Kind::Int, down)),
                3 => format!("double({})", self.of(Kind::Uint, down)),
                4 => format!("double({})", self.of(Kind::Text, down)),
                5 => format!("-({})", self.of(Kind::Double, down)),
                _ => self.sum(Kind::Double, &["+", "-", "*", "/"], down),
            },
            Kind::Text => match choice {
                2 => format!("string({})", self.of(Kind::Int, down)),
                3 => format!("string({})", self.of(Kind::Double, down)),
                4 => format!("string({})", self.of(Kind::Bool, down)),
                5 => format!("string({})", self.of(Kind::Uint, down)),
                6 => format!("{}[{}]", self.of(Kind::Texts, down), self.of(Kind::Int, down)),
                _ => self.sum(Kind::Text, &["+"], down),
            },
            Kind::Numbers => match choice {
                2..=4 => self.mapped(Kind::Numbers, Kind::Int, Kind::Int, down),
                5 => self.mapped(Kind::Texts, Kind::Text, Kind::Int, down),
                6 => self.looped(&["filter"], Kind::Numbers, Kind::Int, down),
                7 => format!("[{}, {}]", self.of(Kind::Int, down), self.of(Kind::Int, down)),
                _ => self.sum(Kind::Numbers, &["+"], down),
            },
            Kind::Texts => match choice {
                2 | 3 => self.mapped(Kind::Texts, Kind::Text, Kind::Text, down),
                4 => self.mapped(Kind::Numbers, Kind::Int, Kind::Text, down),
                5 => self.looped(&["filter"], Kind::Texts, Kind::Text, down),
                6 => format!("[{}]", self.of(Kind::Text, down)),
                _ => self.sum(Kind::Texts, &["+"], down),
            },
            Kind::Tags => format!(
                "{{'a' + '': {}, '' + {}: {}}}",
                self.of(Kind::Int, down),
                self.of(Kind::Text, down),
                self.of(Kind::Int, down)
            ),
        }
    }

    fn bool(&mut self, choice: usize, down: usize) -> String {
        const NUMBERS: [Kind; 3] = [Kind::Int, Kind::Double, Kind::Uint];
        match choice {
            2 => format!("!({})", self.of(Kind::Bool, down)),
            3 => {
                let kind = KINDS[self.choose(KINDS.len())];
                self.sum(kind, &["==", "!="], down)
            }
            4 => {
                let (left, right) = (NUMBERS[self.choose(3)], NUMBERS[self.choose(3)]);
                let sign = self.one_of(&["==", "!=", "<", "<=", ">", ">="]);
                format!("({} {sign} {})", self.of(left, down), self.of(right, down))
            }
            5 => self.sum(Kind::Text, &["<", "<=", ">", ">="], down),
            6 => {
                let function = self.one_of(&["contains", "startsWith", "endsWith"]);
                format!(
                    "{}.{function}({})",
                    self.of(Kind::Text, down),
                    self.of(Kind::Text, down)
                )
            }
            7 => {
                let pattern = self.one_of(&["^a", "[0-9]+$", "a|é", "(", ""]);
                // A pattern that is one is checked before; this one is known only when it is evaluated.
                format!("{}.matches('' + '{pattern}')", self.of(Kind::Text, down))
            }
            8 => match self.choose(3) {
                0 => format!(
                    "({} in {})",
                    self.of(Kind::Int, down),
                    self.of(Kind::Numbers, down)
                ),
                1 => format!("({} in {})", self.of(Kind::Text, down), self.of(Kind::Tags, down)),
                _ => format!("has({}.a)", self.of(Kind::Tags, down)),
            },
            9 => {
                let loops = ["all", "exists", "exists_one"];
                match self.choose(3) {
                    0 => self.looped(&loops, Kind::Numbers, Kind::Int, down),
                    1 => self.looped(&loops, Kind::Texts, Kind::Text, down),
                    _ => self.looped(&loops, Kind::Tags, Kind::Text, down),
                }
            }
            _ => self.sum(Kind::Bool, &["&&", "||"], down),
        }
    }

    fn sum(&mut self, of: Kind, signs: &[&str], down: usize) -> String {
        let sign = self.one_of(signs);
        format!("({} {sign} {})", self.of(of, down), self.of(of, down))
    }

    fn looped(&mut self, loops: &[&str], over: Kind, element: Kind, down: usize) -> String {
        if self.loops == expression::MAX_LOOP_DEPTH {
            return self.leaf(if loops == ["filter"] { over } else { Kind::Bool });
        }
        let kind = self.one_of(loops);
        let over = self.of(over, down.min(1));
        let name = self.enter(element);
        let body = self.of(Kind::Bool, down);
        self.leave();
        format!("{over}.{kind}({name}, {body})")
    }

    fn mapped(&mut self, over: Kind, element: Kind, to: Kind, down: usize) -> String {
        if self.loops == expression::MAX_LOOP_DEPTH {
            return self.leaf(if to == Kind::Int {
                Kind::Numbers
            } else {
                Kind::Texts
            });
        }
        let over = self.of(over, down.min(1));
        let name = self.enter(element);
        let only = match self.choose(3) {
            0 => format!("{}, ", self.of(Kind::Bool, down)),
            _ => String::new(),
        };
        let body = self.of(to, down);
        self.leave();
        format!("{over}.map({name}, {only}{body})")
    }

    fn enter(&mut self, element: Kind) -> String {
        self.loops += 1;
        let name = format!("e{}", self.loops);
        self.bound.push((name.clone(), element));
        name
    }

    fn leave(&mut self) {
        self.loops -= 1;
        self.bound.pop();
    }
}

fn values() -> impl Strategy<Value = Map<String, Value>> {
    let int = || prop_oneof![-4i64..4, any::<i64>(), Just(i64::MAX), Just(i64::MIN)];
    let text = || prop_oneof!["[ab]{0,3}", "[0-9]{1,3}", "[aé€-]{0,4}"];
    (
        (int(), any::<bool>(), prop_oneof![-9.0..9.0f64, any::<f64>()]),
        (text(), (1u64 << 63)..),
        prop::collection::vec(int(), 0..5),
        prop::collection::vec(text(), 0..4),
        prop::collection::btree_map(text(), int(), 0..4),
    )
        .prop_map(|((n, on, x), (name, big), numbers, names, tags)| {
            // JSON has no number for what is none.
            let x = if x.is_finite() { x } else { 1.5 };
            let inputs = json!({"n": n, "on": on, "x": x, "name": name, "big": big,
                "numbers": numbers, "names": names, "tags": tags});
            Map::from_iter([("inputs".to_owned(), inputs)])
        })
}

fn types() -> Types {
    Types {
        inputs: BTreeMap::from_iter(KINDS.map(|kind| {
            let name = kind.input().trim_start_matches("inputs.");
            (name.to_owned(), kind.of_type())
        })),
        ..Types::default()
    }
}

#[test]
fn what_is_right_by_its_types_means_what_it_means_to_the_library() {
    library::on_a_large_stack(|| {
        let (right, with_value) = (Cell::new(0), Cell::new(0));
        let bytes = prop::collection::vec(any::<u8>(), 0..60);
        let kind = prop::sample::select(KINDS.to_vec());
        proptest!(ProptestConfig::with_cases(2000), |(bytes in bytes, kind in kind, variables in values())| {
            let mut writer = Writer { bytes: &bytes, loops: 0, bound: Vec::new() };
            let source = writer.of(kind, 4);
            if source.len() <= expression::MAX_SOURCE_BYTES {
                let checked = expression::check(&source, &types());
                let too_deep = checked.as_ref().is_err_and(|problems| problems[0].message.contains("levels deep"));
                if !too_deep {
                    let checked = checked.map_err(|problems| format!("{source}: {problems:?}"));
                    let of = checked.map_err(TestCaseError::fail)?;
                    right.set(right.get() + 1);
                    let scope = Scope { variables: variables.clone(), ..Scope::default() };
                    let ours = expression::evaluate(&source, &scope);
                    prop_assert_eq!(&ours, &expression::evaluate(&source, &scope));
                    let theirs = library::evaluate(&source, &variables);
                    prop_assert_eq!(ours.clone().map_err(|_| ()), theirs.unwrap_or(Err(())), "{}: {:?}", source, ours);
                    match ours {
                        Ok(value) => {
                            with_value.set(with_value.get() + 1);
                            prop_assert!(is_of(&value, &of), "{source} gave {value}, not {of:?}");
                        }
                        Err(error) => prop_assert!(!error.0.contains("`: no ") && !error.0.contains("is needed where"), "{error}"),
                    }
                }
            }
        });
        assert!(
            right.get() > 1000 && with_value.get() > 500,
            "{right:?} were right, {with_value:?} had a value"
        );
    });
}

fn is_of(value: &Value, kind: &Type) -> bool {
    match (value, kind) {
        (Value::Bool(_), Type::Bool) | (Value::String(_), Type::Text) => true,
        (Value::Number(number), Type::Int) => number.is_i64(),
        (Value::Number(number), Type::Uint) => number.is_u64(),
        (Value::Number(number), Type::Double) => number.is_f64(),
        (Value::Array(values), Type::List(of)) => values.iter().all(|value| is_of(value, of)),
        (Value::Object(entries), Type::Map(of)) => entries.values().all(|value| is_of(value, of)),
        (Value::Object(entries), Type::Object(fields)) => entries
            .iter()
            .all(|(name, value)| fields.get(name).is_some_and(|kind| is_of(value, kind))),
        // Of an empty list, or a list that may be one.
        (_, Type::Any) => true,
        _ => false,
    }
}
