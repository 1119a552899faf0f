//! The product as its users meet it: programs of several organisations, over HTTP, the broker and the command line.

mod consortium;
#[path = "../../../store/tests/server/mod.rs"]
mod server;

// One line for each subject. One program for all: it is built once, and runs several consortia at a time.
mod account;
mod amend;
mod analytics;
mod bad_input;
mod consensus_key;
mod consent;
mod devices;
mod directory;
mod doors;
mod entry_key;
mod evidence;
mod export;
mod frames;
mod history;
mod interop;
mod kill;
mod latecomer;
mod left_out;
mod load_data;
mod lost_folder;
mod matrix;
mod measured;
mod mqtt;
mod operate;
mod operations;
mod oversight;
mod policy;
mod retention;
mod search;
mod sense;
mod shared_server;
mod smart;
mod storm;
mod story;
mod subscription;
mod tampered;
mod tampered_frames;
mod watch;
