//! Logins that follow the directory: records of PractitionerRole say who comes in, in which role, and when that is over.
//!
//! What the operator closed stays closed, whatever the directory says; and no record takes a login that is a patient's, or another record's.

use super::{User, Users, after, alone, check_name, check_practitioner};
use anyhow::bail;
use exchange::{Entitled, Login};
use record::TimeMs;
use std::path::Path;

impl Users {
    /// The records that logins are kept by.
    pub(crate) fn kept(&self) -> Vec<String> {
        self.0.values().filter(|user| !user.ended).filter_map(|user| user.by.clone()).collect()
    }

    /// Refuses what a record would say of a login, if it cannot be so.
    pub(crate) fn may_be(&self, by: &str, entitled: &Entitled) -> anyhow::Result<()> {
        let name = &entitled.name;
        check_name(name)?;
        entitled.practitioner.as_deref().map_or(Ok(()), check_practitioner)?;
        let Some(user) = self.0.get(name) else { return Ok(()) };
        if user.patient.is_some() {
            bail!("the login `{name}` is a patient's: take another name");
        }
        match &user.by {
            Some(other) if other != by && !user.ended => bail!("the login `{name}` is kept by `{other}`: change that"),
            None if user.closed => bail!(
                "the login `{name}` was closed by whoever runs the gateway: take another name, or have it opened again"
            ),
            _ => Ok(()),
        }
    }

    /// Has the list follow what the directory says, and writes it if that changes anything.
    pub(crate) fn follow(path: &Path, said: &[Login], now: TimeMs) -> anyhow::Result<()> {
        let _alone = alone(path)?;
        let mut users = Self::load(path)?;
        let mut changed = false;
        for login in said {
            changed |= users.take(login, now);
        }
        if changed { users.write(path) } else { Ok(()) }
    }

    /// Whether that changes anything.
    fn take(&mut self, Login { by, is }: &Login, now: TimeMs) -> bool {
        let mut changed = false;
        let is_of = |user: &User| user.by.as_ref() == Some(by);
        for (name, user) in self.0.iter_mut().filter(|(_, user)| is_of(user) && !user.ended) {
            if is.as_ref().is_none_or(|entitled| entitled.name != *name) {
                (user.ended, user.tokens_since, user.invitation) = (true, Some(after(now)), None);
                tracing::info!(user = %name, by, "a login is over, as the directory says");
                changed = true;
            }
        }
        let Some(entitled) = is else { return changed };
        if let Err(why) = self.may_be(by, entitled) {
            tracing::warn!(by, why = format!("{why:#}"), "a login of the directory is not taken");
            return changed;
        }
        let Entitled { name, role, practitioner } = entitled;
        let before = self.0.get(name);
        let is_same = |user: &User| (user.role, &user.practitioner) == (*role, practitioner);
        if before.is_some_and(|user| is_of(user) && !user.ended && is_same(user)) {
            return changed;
        }
        // Whoever comes back by the same record is whom it let in before; a name that another record kept is given to somebody else.
        let known = before.filter(|user| is_of(user) || (user.by.is_none() && !user.is_out()));
        let person_since = match known {
            Some(user) if is_same(user) => user.person_since.or(Some(after(now))),
            _ if before.is_some() => Some(after(now)),
            _ => Some(now.0.div_ceil(1000)),
        };
        let user = User {
            role: *role,
            password: known.and_then(|user| user.password.clone()),
            patient: None,
            practitioner: practitioner.clone(),
            tokens_since: Some(if before.is_some() { after(now) } else { now.0 / 1000 }),
            person_since,
            closed: before.is_some_and(|user| user.closed),
            by: Some(by.clone()),
            ended: false,
            invitation: None,
        };
        tracing::info!(user = %name, %role, by, "a login is as the directory says");
        self.0.insert(name.clone(), user);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::New;
    use super::*;
    use record::Role;

    const LEA: &str = "PractitionerRole/lea";

    fn is(by: &str, name: &str, role: Role) -> Login {
        let practitioner = Some("Practitioner/lea".to_owned());
        Login { by: by.to_owned(), is: Some(Entitled { name: name.to_owned(), role, practitioner }) }
    }

    fn over(by: &str) -> Login {
        Login { by: by.to_owned(), is: None }
    }

    struct List(tempfile::TempDir, u64);

    impl List {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap(), 0)
        }

        fn path(&self) -> std::path::PathBuf {
            self.0.path().join("users.toml")
        }

        /// Each step is ten seconds after the one before.
        fn follow(&mut self, said: &[Login]) -> User {
            self.1 += 10_000;
            Users::follow(&self.path(), said, TimeMs(self.1)).unwrap();
            Users::load(&self.path()).unwrap().get("lea").cloned().unwrap()
        }

        fn give(&mut self, role: Role, patient: Option<&str>) -> anyhow::Result<()> {
            self.1 += 10_000;
            let given =
                New { role, password: "correct horse", patient: patient.map(str::to_owned), practitioner: None };
            Users::set(&self.path(), "lea", given, TimeMs(self.1))
        }

        fn comes_in(&self) -> bool {
            Users::load(&self.path()).unwrap().authenticate("lea", "correct horse").is_some()
        }
    }

    #[test]
    fn a_login_begins_changes_and_ends_with_its_record() {
        let mut list = List::new();
        let begun = list.follow(&[is(LEA, "lea", Role::Nurse)]);
        assert_eq!((begun.role, begun.person_since, begun.is_out()), (Role::Nurse, Some(10), false));
        assert!(!list.comes_in(), "nobody knows a password");
        let written = std::fs::metadata(list.path()).unwrap().modified().unwrap();
        list.follow(&[is(LEA, "lea", Role::Nurse)]);
        assert_eq!(std::fs::metadata(list.path()).unwrap().modified().unwrap(), written, "nothing was new");

        list.give(Role::Nurse, None).unwrap();
        assert!(list.comes_in(), "the operator gave a password");
        assert!(list.give(Role::Doctor, None).is_err(), "the record says what the login is");
        let doctor = list.follow(&[is(LEA, "lea", Role::Doctor)]);
        assert_eq!((doctor.role, doctor.tokens_since), (Role::Doctor, Some(list.1 / 1000 + 2)));
        assert!(list.comes_in(), "another role asks for no other password");

        assert!(list.follow(&[over(LEA)]).is_out() && !list.comes_in());
        let again = list.follow(&[is(LEA, "lea", Role::Doctor)]);
        assert_eq!(again.person_since, doctor.person_since, "the same record is about the same person");
        assert!(list.comes_in());
        list.follow(&[]);
        assert!(list.comes_in(), "of a record that the database does not show nothing is known");
    }

    #[test]
    fn a_name_that_another_record_kept_is_somebody_elses_who_chooses_another_password() {
        let mut list = List::new();
        list.follow(&[is(LEA, "lea", Role::Nurse)]);
        list.give(Role::Nurse, None).unwrap();
        let other = "PractitionerRole/lea-2";
        assert_eq!(list.follow(&[is(other, "lea", Role::Doctor)]).by.as_deref(), Some(LEA), "the first keeps it");
        let taken = list.follow(&[over(LEA), is(other, "lea", Role::Nurse)]);
        assert_eq!((taken.by.as_deref(), taken.person_since), (Some(other), Some(list.1 / 1000 + 2)));
        assert!(!list.comes_in(), "what the first one knew opens nothing");
    }

    #[test]
    fn what_the_operator_closed_stays_closed_and_a_patients_login_is_no_records() {
        let mut list = List::new();
        list.follow(&[is(LEA, "lea", Role::Nurse)]);
        list.give(Role::Nurse, None).unwrap();
        Users::close(&list.path(), "lea", true, TimeMs(list.1)).unwrap();
        assert!(list.follow(&[is(LEA, "lea", Role::Doctor)]).is_out());
        Users::close(&list.path(), "lea", false, TimeMs(list.1)).unwrap();
        assert!(list.comes_in());

        let mut list = List::new();
        list.give(Role::Patient, Some("p1")).unwrap();
        assert_eq!(list.follow(&[is(LEA, "lea", Role::Doctor)]).role, Role::Patient);
        // Made by command, and then kept by the directory: the same person, if it is the same.
        let mut list = List::new();
        list.give(Role::Nurse, None).unwrap();
        assert_eq!(list.follow(&[is(LEA, "lea", Role::Nurse)]).by.as_deref(), Some(LEA));
        assert!(list.comes_in());
        assert!(list.follow(&[over(LEA)]).is_out());
        list.give(Role::Administrator, None).unwrap();
        assert!(list.comes_in(), "the record is over, and the name is free");
    }
}
