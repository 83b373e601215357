//! Where somebody asks: the namespace that a request names, and all that the token reaches. What looks things up for people takes
//! one of these, or a [`Reach`], so that no call is without.

use coordinator::Error;
use coordinator::database::View;
use coordinator::namespaces::{Reach, Scope, listed};
use coordinator::people::Caller;

/// As a request says it; nothing is known yet of whether the namespace is there. The default reaches nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Within {
    reach: Reach,
    /// Empty: `default`.
    namespace: String,
    /// Of a list: over all that is reached.
    all: bool,
}

impl Within {
    pub(crate) fn one(caller: &Caller, namespace: String) -> Self {
        Self::listed(caller, namespace, false)
    }

    pub(crate) fn listed(caller: &Caller, namespace: String, all: bool) -> Self {
        Self {
            reach: caller.reach.clone(),
            namespace,
            all,
        }
    }

    /// As an admin who names no namespace.
    #[cfg(test)]
    pub(crate) fn of_admin() -> Self {
        Self {
            reach: Reach::everything(),
            ..Self::default()
        }
    }

    /// The same, about the namespace that an object says it is of; empty: it says none.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the request names another one.
    pub(crate) fn narrowed(self, object: &str) -> Result<Self, Error> {
        match (self.namespace.as_str(), object) {
            (_, "") => Ok(self),
            ("", object) => Ok(Self {
                namespace: object.to_owned(),
                ..self
            }),
            (asked, object) if asked == object => Ok(self),
            (asked, object) => Err(Error::Invalid(format!(
                "its metadata.namespace is {object:?}, and it is to be put into {asked:?}: leave -n out (and FARRIER_NAMESPACE), or \
                 change metadata.namespace"
            ))),
        }
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// # Errors
    /// [`Error::NotFound`] for a namespace that is not there, or out of reach.
    pub(crate) fn scope(&self, view: &View) -> Result<Scope, Error> {
        Scope::within(view, &self.reach, &self.namespace)
    }

    /// What a list is over.
    ///
    /// # Errors
    /// As [`Within::scope`].
    pub(crate) fn list(&self, view: &View) -> Result<Reach, Error> {
        listed(view, &self.reach, &self.namespace, self.all)
    }
}
