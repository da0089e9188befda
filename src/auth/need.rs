//! What requests need, and which tokens have it.

use super::pattern::Models;
use crate::error::{Error, Kind};
use crate::metrics::Denial;

/// What a token may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Calls to models.
    Predict,
    /// States, signatures and health of models, and metrics.
    Read,
    /// The administration, changes of the configuration, profiles.
    Manage,
}

impl Scope {
    const ALL: [Scope; 3] = [Scope::Predict, Scope::Read, Scope::Manage];

    fn name(self) -> &'static str {
        match self {
            Scope::Predict => "predict",
            Scope::Read => "read",
            Scope::Manage => "manage",
        }
    }
}

/// What a request needs of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// That it is valid: for what tells nothing of the models.
    Any,
    /// A scope, as long as the model is not known.
    Of(Scope),
    /// Read or predict, as long as the model is not known.
    Signatures,
    /// To call this model.
    Predict(&'a str),
    /// To read the signatures of this model: who may call it has to know them.
    SignaturesOf(&'a str),
    /// To read the state of this model.
    Read(&'a str),
    /// To read what is told of all models at once: read of all models, or manage.
    ReadAll,
    /// To change what is served.
    Manage,
}

/// The scopes of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scopes([bool; Scope::ALL.len()]);

impl Scopes {
    /// All of them.
    pub(super) const ALL: Scopes = Scopes([true; Scope::ALL.len()]);

    /// Reads names between commas, each at most once.
    pub(super) fn read(text: &str) -> Option<Scopes> {
        let mut scopes = [false; Scope::ALL.len()];
        for name in text.split(',') {
            let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name)?;
            if std::mem::replace(&mut scopes[scope as usize], true) {
                return None;
            }
        }
        Some(Scopes(scopes))
    }

    pub(super) fn manage(self) -> bool {
        self.have(Scope::Manage)
    }

    fn have(self, scope: Scope) -> bool {
        self.0[scope as usize]
    }
}

/// What a token lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unmet(String, Denial);

impl Unmet {
    pub(super) fn denial(&self) -> Denial {
        self.1
    }

    /// Returns the error for the token `name`.
    pub(super) fn error(self, name: &str) -> Error {
        Error::new(Kind::PermissionDenied, format!("Token {name} {}", self.0))
    }
}

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) scopes: Scopes,
    pub(super) models: Models,
}

impl Grant {
    /// Returns what is lacking for `need`, if anything is.
    pub(super) fn has(&self, need: Need<'_>) -> Result<(), Unmet> {
        match need {
            Need::Any => Ok(()),
            Need::Of(scope) => self.has_scope(&[scope]),
            Need::Signatures => self.has_scope(&[Scope::Read, Scope::Predict]),
            Need::Predict(model) => self.has_scope(&[Scope::Predict]).and_then(|()| self.is_for(model)),
            Need::SignaturesOf(model) => self.has(Need::Signatures).and_then(|()| self.is_for(model)),
            Need::Read(model) => self.has_scope(&[Scope::Read]).and_then(|()| self.is_for(model)),
            Need::ReadAll => self.has_scope(&[Scope::Read, Scope::Manage]).and_then(|()| self.is_for_all()),
            Need::Manage => self.has_scope(&[Scope::Manage]),
        }
    }

    fn has_scope(&self, any_of: &[Scope]) -> Result<(), Unmet> {
        if any_of.iter().any(|scope| self.scopes.have(*scope)) {
            return Ok(());
        }
        let names: Vec<&str> = any_of.iter().map(|scope| scope.name()).collect();
        Err(Unmet(format!("is not for this: it needs the scope {}", names.join(" or ")), Denial::Scope))
    }

    fn is_for(&self, model: &str) -> Result<(), Unmet> {
        /// Most characters of a model's name that are told.
        const SHOWN: usize = 100;
        if self.models.have(model) {
            return Ok(());
        }
        let shown: String = model.chars().take(SHOWN).collect();
        Err(Unmet(format!("is not for model {shown}"), Denial::Model))
    }

    fn is_for_all(&self) -> Result<(), Unmet> {
        if self.models.every {
            return Ok(());
        }
        Err(Unmet("is not for this, which tells of all models: it needs models=*".to_owned(), Denial::Model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(scopes: &str, models: &str) -> Grant {
        Grant { scopes: Scopes::read(scopes).unwrap(), models: Models::read(models).unwrap() }
    }

    #[test]
    fn each_need_is_met_by_few() {
        let tokens = [
            grant("predict", "m*"),
            grant("read", "m*"),
            grant("read", "*"),
            grant("manage", "*"),
            grant("predict,read,manage", "*"),
        ];
        for (need, expected) in [
            (Need::Any, [true; 5]),
            (Need::Of(Scope::Predict), [true, false, false, false, true]),
            (Need::Of(Scope::Read), [false, true, true, false, true]),
            (Need::Signatures, [true, true, true, false, true]),
            (Need::Predict("m1"), [true, false, false, false, true]),
            (Need::Predict("n"), [false, false, false, false, true]),
            (Need::SignaturesOf("m1"), [true, true, true, false, true]),
            (Need::SignaturesOf("n"), [false, false, true, false, true]),
            (Need::Read("m1"), [false, true, true, false, true]),
            (Need::Read("n"), [false, false, true, false, true]),
            (Need::ReadAll, [false, false, true, true, true]),
            (Need::Manage, [false, false, false, true, true]),
        ] {
            let met = tokens.each_ref().map(|token| token.has(need).is_ok());
            assert_eq!(met, expected, "{need:?}");
        }
    }

    #[test]
    fn what_is_lacking_is_said() {
        let token = grant("read", "m");
        let lacking = |need| {
            let unmet = token.has(need).unwrap_err();
            (unmet.denial(), unmet.error("t").message.into_owned())
        };
        let (denial, said) = lacking(Need::Predict("m"));
        assert_eq!((denial, &*said), (Denial::Scope, "Token t is not for this: it needs the scope predict"));
        let long = "n".repeat(1000);
        let (denial, said) = lacking(Need::Read(&long));
        assert!(denial == Denial::Model && said.len() < 200, "{said}");
        assert!(lacking(Need::ReadAll).1.contains("models=*"));
    }
}
