//! The suite that every database passes, run on SQLite and on PostgreSQL, and what holds for one of them alone.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, whose helpers the lints do not know"
)]

mod postgres;
mod search;
#[path = "../server/mod.rs"]
mod server;
mod sqlite;
mod suite;
mod synthea;
mod templates;
mod wire;

use postgres::Postgres;
use record::OrgId;
use std::path::Path;
use store::{Address, Config, Seal, SealError, SealedSubmission, Store};
use suite::Numbering;

/// A kind of database.
trait Backend {
    /// The database of `folder`, which stores of several organisations may share.
    fn database(&self, folder: &Path) -> Address;

    fn config(&self, folder: &Path, org: &str) -> Config {
        let org: OrgId = org.parse().unwrap();
        Config {
            database: self.database(folder),
            journal: folder.join(format!("{org}.journal")),
            org,
            readers: 3,
            before_writing: || {},
        }
    }

    fn open(&self, folder: &Path, org: &str, seal: Box<dyn Seal>) -> Store {
        let opened = Store::open(self.config(folder, org)).unwrap();
        opened.start(seal).unwrap()
    }

    /// Carries out a statement, as somebody else who may write to the database.
    fn run(&self, folder: &Path, statement: &str);

    /// How many rows a table has, or some of it.
    fn count(&self, folder: &Path, of: &str) -> i64;

    fn store(&self, folder: &Path) -> Store {
        self.open(folder, "ems", Box::new(Numbering::default()))
    }
}

struct Sqlite;

impl Backend for Sqlite {
    fn database(&self, folder: &Path) -> Address {
        folder.join("cloud.db").into()
    }

    fn run(&self, folder: &Path, statement: &str) {
        rusqlite::Connection::open(folder.join("cloud.db")).unwrap().execute_batch(statement).unwrap();
    }

    fn count(&self, folder: &Path, of: &str) -> i64 {
        let db = rusqlite::Connection::open(folder.join("cloud.db")).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {of}"), [], |columns| columns.get(0)).unwrap()
    }
}

macro_rules! on_every_database {
    ($($module:ident :: $test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $module::$test(&Sqlite).await;
            }
        )*
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(postgres) = super::Postgres::shared() {
                        super::$module::$test(&postgres).await;
                    }
                }
            )*
        }
    };
}

on_every_database! {
    suite::a_record_reads_back_byte_for_byte,
    suite::versions_follow_each_other_and_history_shows_them,
    suite::a_put_of_nothing_is_written_like_any_other,
    suite::audit_events_of_one_entry_are_found_by_it,
    suite::what_nearly_all_records_say_is_found_too,
    suite::a_put_that_fails_leaves_nothing,
    suite::of_many_writers_of_one_version_one_wins,
    suite::of_two_gateways_under_one_condition_one_creates,
    suite::deleted_records_are_not_found_but_read,
    suite::recovery_inserts_versions_in_any_order,
    suite::a_row_taken_out_gives_way_to_the_one_below,
    suite::an_erased_patient_is_gone_from_every_table_and_others_stay,
    suite::frames_are_kept_once_and_read_in_order,
    suite::frames_of_some_kinds_are_found_from_both_ends_of_time,
    suite::digests_of_frames_are_found_between_counters,
    suite::every_frame_has_a_place_and_is_filed_anew_by_it,
    suite::of_a_frame_that_is_let_go_its_digest_stays_until_the_patient_is_erased,
    suite::attachments_and_keys_take_the_place_of_earlier_copies,
    suite::entries_stand_where_the_answer_says,
    suite::a_group_that_cannot_be_sealed_is_not_written,
    suite::a_full_queue_is_busy_and_a_put_too_large_is_refused,
    suite::a_closed_store_takes_no_more_writes_and_opens_again,
    suite::what_is_not_final_is_given_back_at_opening,
    suite::a_patients_records_are_one_set,
    suite::a_sweep_sees_every_version_once,
    search::searches_agree_with_a_plain_filter,
    search::every_type_of_fhir_is_searched_at_once,
    search::pages_follow_each_other_while_records_arrive,
    templates::templates_change_nothing_about_what_is_found_and_read,
    templates::a_template_goes_with_the_last_version_that_has_it,
    templates::a_damaged_template_is_filed_anew_with_the_next_event_that_has_it,
    templates::a_place_that_is_none_of_ours_is_no_templates_place,
    templates::a_put_that_fails_has_no_template_and_the_next_has_its_own,
    templates::a_version_with_a_template_that_is_current_again_is_found,
}

/// A seal that never works.
struct Refusing;
impl Seal for Refusing {
    fn seal(&mut self, _: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        Err(SealError("no key".into()))
    }
    fn abort(&mut self) {}
    fn committed(&mut self, _: &[SealedSubmission]) {}
}
