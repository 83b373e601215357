//! Events at their places in the order, with their workflows, in the store or in archives.

use std::collections::VecDeque;
use std::sync::Arc;

use coordinator::Error;
use coordinator::order::Place;
use coordinator::steps::rows;
use workflow::engine::{Event, Workflow};

use super::wanted::Wanted;
use crate::archive::WorkflowRows;
use crate::control::ControlPlane;

/// Archives that are held at hand: events of a few workflows come in turns.
const AT_HAND: usize = 8;

/// An event that a listener wants.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    /// `None`: the workflow was deleted since.
    pub(crate) what: Option<(Arc<Workflow>, Arc<Event>)>,
}

/// Reads for one listener.
pub(crate) struct Reader {
    control: ControlPlane,
    at_hand: VecDeque<(String, WorkflowRows)>,
}

impl Reader {
    pub(crate) fn new(control: ControlPlane) -> Self {
        Self {
            control,
            at_hand: VecDeque::new(),
        }
    }

    /// Those of the places that are wanted, in their order.
    ///
    /// # Errors
    /// When the store or an archive cannot be read.
    pub(crate) async fn wanted(&mut self, wanted: &Wanted, places: Vec<Place>) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let mut places = places.into_iter().filter(|place| wanted.may_be(place)).peekable();
        while let Some(first) = places.next() {
            let mut of_one = vec![first];
            while let Some(next) = places.next_if(|next| next.workflow == of_one[0].workflow) {
                of_one.push(next);
            }
            found.extend(self.of_one(wanted, of_one).await?);
        }
        Ok(found)
    }

    /// Of one workflow.
    async fn of_one(&mut self, wanted: &Wanted, places: Vec<Place>) -> Result<Vec<Found>, Error> {
        let Some(id) = places.first().map(|place| place.workflow.clone()) else {
            return Ok(Vec::new());
        };
        let workflow = match self.control.workflow_if_any(&id).await? {
            Some(workflow) if wanted.is_labelled(&workflow.head) => workflow,
            None if !wanted.needs_workflow() => {
                return Ok(places
                    .into_iter()
                    .map(|place| Found { place, what: None })
                    .collect());
            }
            _ => return Ok(Vec::new()),
        };
        let numbers: Vec<u64> = places.iter().map(|place| place.number).collect();
        let asked = id.clone();
        let events = self.rows_of(&id).read(move |place| {
            let get = |number: &u64| place.rows.get::<Event>(&rows::event(&asked, *number));
            numbers.iter().map(get).collect::<Result<Vec<_>, Error>>()
        });
        let events: Vec<Option<Event>> = events
            .await?
            .into_iter()
            .map(|event| event.map(|event| event.value))
            .collect();
        let mut found: Vec<Found> = Vec::new();
        for (place, event) in places.into_iter().zip(events) {
            let what = event.map(|event| (workflow.clone(), Arc::new(event)));
            if what.is_some() || !wanted.needs_workflow() {
                found.push(Found { place, what });
            }
        }
        if !wanted.machine.is_empty() {
            let (wanted, workflow) = (wanted.clone(), workflow.clone());
            let events: Vec<Event> = found
                .iter()
                .filter_map(|found| found.what.as_ref())
                .map(|(_, event)| (**event).clone())
                .collect();
            let on_machine = self
                .control
                .inner
                .db
                .with(move |view| wanted.on_machine(view, &workflow, &events));
            let on_machine = on_machine.await?;
            found.retain(|found| on_machine.contains(&found.place.number));
        }
        Ok(found)
    }

    /// One event; `None`: its workflow was deleted.
    ///
    /// # Errors
    /// When the store or an archive cannot be read.
    pub(crate) async fn one(
        &mut self,
        id: &str,
        number: u64,
    ) -> Result<Option<(Arc<Workflow>, Arc<Event>)>, Error> {
        let Some(workflow) = self.control.workflow_if_any(id).await? else {
            return Ok(None);
        };
        let key = rows::event(id, number);
        let event = self
            .rows_of(id)
            .read(move |place| place.rows.get::<Event>(&key))
            .await?;
        Ok(event.map(|event| (workflow, Arc::new(event.value))))
    }

    fn rows_of(&mut self, id: &str) -> WorkflowRows {
        if let Some((_, rows)) = self.at_hand.iter().find(|(known, _)| known == id) {
            return rows.clone();
        }
        let rows = self.control.rows_of(id);
        self.at_hand.push_back((id.to_owned(), rows.clone()));
        if self.at_hand.len() > AT_HAND {
            self.at_hand.pop_front();
        }
        rows
    }
}
