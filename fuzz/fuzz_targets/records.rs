//! What a proxy tells its agent: what is read is written and read as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_telemetry::records::RecordBatch;

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = RecordBatch::read(bytes) else { return };
    let again = RecordBatch::read(&batch.to_bytes()).expect("what is written is read");
    assert_eq!(again, batch);
});
