//! Storing and reading.
use crate::cluster::{Database, failure};

#[test]
fn a_memory_is_stored_and_found() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: uuid::Uuid = ann.query_one("SELECT engram.add('Ann likes green tea')", &[]).unwrap().get(0);
    let row = ann.query_one("SELECT id, content FROM engram.search('tea')", &[]).unwrap();
    assert_eq!(row.get::<_, uuid::Uuid>(0), id);
    let e = failure(ann.query("SELECT engram.pin('018f3a2e-0000-7000-8000-000000000000')", &[]));
    assert_eq!(e.code, "PT404");
}
