use proptest::prelude::*;

use super::*;

/// A frame without a lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whole {
    Data(u32, Vec<u8>),
    Other(Frame<'static>),
}

impl Whole {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data(stream, bytes) => Frame::Data { stream: *stream, bytes }.write(out),
            Self::Other(frame) => frame.write(out),
        }
    }
}

fn any_frame() -> impl Strategy<Value = Whole> {
    let stream = 1..u32::MAX;
    prop_oneof![
        (stream.clone(), prop::collection::vec(any::<u8>(), 1..600))
            .prop_map(|(stream, bytes)| Whole::Data(stream, bytes)),
        (stream.clone(), any::<u16>()).prop_map(|(stream, port)| Whole::Other(Frame::Open { stream, port })),
        stream.clone().prop_map(|stream| Whole::Other(Frame::End { stream })),
        stream.clone().prop_map(|stream| Whole::Other(Frame::Reset { stream })),
        (stream.clone(), any::<u32>())
            .prop_map(|(stream, bytes)| Whole::Other(Frame::Credit { stream, bytes })),
        stream.prop_map(|stream| Whole::Other(Frame::Opened { stream })),
        Just(Whole::Other(Frame::Leave)),
    ]
}

/// All frames of what comes in pieces that end at `cuts`, with data of one stream put together.
fn parsed(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Whole>, Malformed> {
    let (mut parser, mut all, mut begin) = (Parser::default(), Vec::new(), 0);
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        let mut piece = &bytes[begin..end];
        while let Some(frame) = parser.next(&mut piece)? {
            add(&mut all, whole(frame));
        }
        assert!(piece.is_empty(), "what is not understood yet is kept");
        begin = end;
    }
    Ok(all)
}

fn whole(frame: Frame<'_>) -> Whole {
    match frame {
        Frame::Data { stream, bytes } => Whole::Data(stream, bytes.to_vec()),
        Frame::Open { stream, port } => Whole::Other(Frame::Open { stream, port }),
        Frame::End { stream } => Whole::Other(Frame::End { stream }),
        Frame::Reset { stream } => Whole::Other(Frame::Reset { stream }),
        Frame::Credit { stream, bytes } => Whole::Other(Frame::Credit { stream, bytes }),
        Frame::Opened { stream } => Whole::Other(Frame::Opened { stream }),
        Frame::Leave => Whole::Other(Frame::Leave),
    }
}

/// Data of one stream that follows itself is one.
fn add(all: &mut Vec<Whole>, frame: Whole) {
    match (frame, all.last_mut()) {
        (Whole::Data(stream, bytes), Some(Whole::Data(of, before))) if *of == stream => before.extend(bytes),
        (frame, _) => all.push(frame),
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_however_it_comes_in_pieces(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        let mut joined = Vec::new();
        for frame in frames {
            frame.write(&mut bytes);
            add(&mut joined, frame);
        }
        prop_assert_eq!(parsed(&bytes, &cuts), Ok(joined));
    }

    #[test]
    fn any_bytes_are_frames_or_refused_and_the_pieces_do_not_matter(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        prop_assert_eq!(parsed(&bytes, &cuts), parsed(&bytes, &[]));
    }

    #[test]
    fn what_later_versions_say_is_skipped(kind in 8_u8.., body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = Vec::new();
        put(&mut bytes, kind, 7, &body);
        put(&mut bytes, OPEN, 3, &[&[0x12, 0x34][..], &body].concat());
        let open = Whole::Other(Frame::Open { stream: 3, port: 0x1234 });
        prop_assert_eq!(parsed(&bytes, &[1, 5, 9, 11]), Ok(vec![open]));
    }
}

#[test]
fn a_frame_that_lacks_what_its_kind_needs_is_refused() {
    let short = parsed(&[CREDIT, 0, 0, 3, 0, 0, 0, 1], &[]);
    assert_eq!(short, Err(Malformed::Short { kind: CREDIT, length: 3 }));
    assert_eq!(parsed(&[END, 0, 0, 0, 0, 0, 0, 0], &[]), Err(Malformed::Stream { kind: END, stream: 0 }));
    assert_eq!(parsed(&[LEAVE, 0, 0, 0, 0, 0, 0, 1], &[]), Err(Malformed::Stream { kind: LEAVE, stream: 1 }));
}
