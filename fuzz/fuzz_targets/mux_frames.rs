//! What a peer says inside mutual TLS: any bytes are frames or refused, however they come in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_transport::mux::frame::{Frame, MOST_DATA, Malformed, Parser};

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    let whole = written(&bytes, &[]);
    assert_eq!(whole, written(&bytes, &cuts), "the pieces matter");
    if let Ok(again) = whole {
        assert_eq!(written(&again, &cuts), Ok(again.clone()), "what is written is read as it was");
    }
});

/// What the frames in `bytes` are when they are written again, all data of a stream that follows itself as one.
fn written(bytes: &[u8], cuts: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut parser, mut out, mut rest) = (Parser::default(), Vec::new(), bytes);
    let mut data: Option<(u32, Vec<u8>)> = None;
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut));
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
        rest = behind;
        while let Some(frame) = parser.next(&mut piece)? {
            match (frame, &mut data) {
                (Frame::Data { stream, bytes }, Some((of, all))) if *of == stream => {
                    all.extend_from_slice(bytes);
                }
                (Frame::Data { stream, bytes }, _) => {
                    flush(&mut data, &mut out);
                    data = Some((stream, bytes.to_vec()));
                }
                (frame, _) => {
                    flush(&mut data, &mut out);
                    frame.write(&mut out);
                }
            }
        }
        assert!(piece.is_empty(), "what is not understood yet is kept");
    }
    flush(&mut data, &mut out);
    Ok(out)
}

fn flush(data: &mut Option<(u32, Vec<u8>)>, out: &mut Vec<u8>) {
    if let Some((stream, bytes)) = data.take() {
        bytes.chunks(MOST_DATA).for_each(|bytes| Frame::Data { stream, bytes }.write(out));
    }
}
