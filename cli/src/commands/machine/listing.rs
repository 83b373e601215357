//! `farrier machine list`.

use clap::ValueEnum;
use proto::v1::ListMachinesRequest;

use super::super::{Asking, Cut, Listing, Selecting, cut};
use crate::failure::Failure;
use crate::output;
use crate::views::{self, Machine};

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    selecting: Selecting,
    /// Only those whose agent is in one of these states, such as attached,silent
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<AgentState>,
    #[command(flatten)]
    cut: Cut,
    /// Sort by this, instead of by name
    #[arg(long, value_name = "COLUMN")]
    sort_by: Option<SortBy>,
    #[command(flatten)]
    listing: Listing,
    /// Columns more, with processors, memory, disks and product of each
    #[arg(long)]
    hardware: bool,
}

/// What is known of a machine's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AgentState {
    /// It is connected
    Attached,
    /// It is not
    Away,
    /// Nothing is heard of it, although it has something to run
    Silent,
}

impl AgentState {
    fn of(machine: &Machine) -> Self {
        match (machine.silent, machine.attached) {
            (true, _) => AgentState::Silent,
            (false, true) => AgentState::Attached,
            (false, false) => AgentState::Away,
        }
    }
}

/// What machines are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// In the order of numbers, not of letters
    Address,
    Name,
    /// What it boots next
    Next,
    /// Those that were heard last come first, those never heard of last
    Seen,
    /// Silent ones, attached ones, the others
    State,
}

pub(super) async fn list(args: ListArgs, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = ListMachinesRequest {
        namespace: asking.namespace.clone(),
        all_namespaces: args.listing.all_namespaces,
        selector: args.selecting.selector.clone(),
    };
    let answer = client.control.list_machines(request).await;
    let machines = client.answer(answer)?.machines.into_iter();
    let is_wanted = |machine: &Machine| {
        args.cut.is_named(&machine.name)
            && (args.state.is_empty() || args.state.contains(&AgentState::of(machine)))
    };
    let machines: Vec<Machine> = machines.map(Machine::from).filter(is_wanted).collect();
    let machines = sorted(machines, args.sort_by);
    let (machines, more) = cut(machines, &args.cut);
    let columns = args.selecting.columns(args.listing);
    let (out, format) = (asking.out, asking.output);
    match args.hardware {
        _ if format == output::Format::Wide => {
            let more = (&views::WIDE[..], Machine::wide as fn(&_) -> _);
            output::list_with_more(out, format, &machines, columns, more)?;
        }
        true => {
            let more = (&views::inventory::COLUMNS[..], Machine::hardware as fn(&_) -> _);
            output::list_with_more(out, format, &machines, columns, more)?;
        }
        false => output::list_with(out, format, &machines, columns)?,
    }
    more.say();
    Ok(())
}

/// Of equal ones the order is that of names, as before.
fn sorted(mut machines: Vec<Machine>, by: Option<SortBy>) -> Vec<Machine> {
    let address = |machine: &Machine| {
        machine
            .addresses
            .iter()
            .find_map(|text| text.parse::<std::net::Ipv4Addr>().ok())
    };
    match by {
        None => {}
        Some(SortBy::Address) => {
            machines.sort_by_key(|machine| (address(machine).is_none(), address(machine)))
        }
        Some(SortBy::Name) => machines.sort_by_key(|machine| machine.name.clone()),
        Some(SortBy::Next) => machines.sort_by_key(|machine| machine.boots_next.clone()),
        Some(SortBy::Seen) => machines.sort_by_key(|machine| std::cmp::Reverse(machine.last_seen.clone())),
        Some(SortBy::State) => machines.sort_by_key(|machine| match AgentState::of(machine) {
            AgentState::Silent => 0,
            AgentState::Attached => 1,
            AgentState::Away => 2,
        }),
    }
    machines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, address: &str, attached: bool, silent: bool, seen: i64) -> Machine {
        Machine::from(proto::v1::Machine {
            name: name.into(),
            addresses: Some(address.to_owned())
                .filter(|text| !text.is_empty())
                .into_iter()
                .collect(),
            attached,
            silent,
            last_seen: (seen > 0).then_some(prost_types::Timestamp {
                seconds: seen,
                nanos: 0,
            }),
            ..proto::v1::Machine::default()
        })
    }

    #[test]
    fn machines_are_sorted_as_people_mean_it() {
        let all = || {
            vec![
                machine("a", "10.0.0.10", false, false, 0),
                machine("b", "10.0.0.9", true, false, 5),
                machine("c", "", true, true, 7),
            ]
        };
        for (by, want) in [
            (SortBy::Address, "bac"),
            (SortBy::Name, "abc"),
            (SortBy::Seen, "cba"),
            (SortBy::State, "cba"),
        ] {
            let names: String = sorted(all(), Some(by))
                .into_iter()
                .map(|machine| machine.name)
                .collect();
            assert_eq!(names, want, "{by:?}");
        }
    }
}
