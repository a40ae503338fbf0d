//! What a publisher asks, and what it is answered.

use super::*;

#[test]
fn commands_as_encoders_send_them_are_answered() {
    let mut raw = Raw::new();
    let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
    raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
    assert!(raw.sent().contains("NetConnection.Connect.Success"));
    for (name, argument, answer) in [
        ("releaseStream", text("me?key=secret"), "_result"),
        ("FCPublish", text("me?key=secret"), "onFCPublish"),
        ("createStream", Amf0Value::Null, "_result"),
        ("_checkbw", Amf0Value::Null, "_result"),
        ("getStreamLength", text("me"), "_result"),
        ("FCUnpublish", text("me"), "onFCUnpublish"),
    ] {
        raw.send(&command(vec![text(name), Amf0Value::Number(4.0), Amf0Value::Null, argument])).unwrap();
        let sent = raw.sent();
        assert!(sent.contains(answer) && !sent.contains("secret"), "{name}: {sent}");
    }
    raw.send(&command(vec![text("onBWDone"), Amf0Value::Number(0.0)])).unwrap();
    assert_eq!(raw.sent(), "");
    raw.send(&message(2, 0, 4, &[0, 6, 0, 0, 1, 2])).unwrap();
    assert!(raw.sent().ends_with("\0\u{7}\0\0\u{1}\u{2}"), "a ping is answered with its timestamp");
}

#[test]
fn refusals_are_said_in_words() {
    for (app, key, code, words) in [
        ("live", "", "NetStream.Publish.BadName", "the stream name is empty"),
        ("live", "a/../b", "NetStream.Publish.BadName", "may hold only letters"),
        ("api", "me", "NetStream.Publish.BadName", "reserved"),
        ("live", &"x".repeat(257), "NetStream.Publish.BadName", "257 bytes"),
    ] {
        let mut pair = Pair::new(4_096);
        let request = pair.client.request_connection(app.into()).unwrap();
        pair.deliver(request);
        let request = pair.client.request_publishing(key.into(), PublishRequestType::Live).unwrap();
        // The client knows no onStatus of level error and reports it as unknown, so look at what was sent instead.
        let mut raw = Raw::new();
        let object = Amf0Value::Object([("app".to_owned(), text(app))].into());
        raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
        raw.send(&command(vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null])).unwrap();
        raw.sent();
        raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text(key), text("live")]))
            .unwrap();
        let sent = raw.sent();
        assert!(sent.contains(code) && sent.contains(words) && sent.contains("error"), "{app}/{key}: {sent}");
        assert!(matches!(&raw.events()[..], [Event::Closed(refusal)] if refusal.kind == RefusalKind::BadName));
        assert!(raw.session.is_closed());
        pair.deliver(request);
    }
    let mut raw = Raw::connected();
    raw.sent();
    raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me"), text("live")]))
        .unwrap();
    raw.events();
    raw.session.reject(raw.now, Refusal::new(RefusalKind::Unauthorized, "the key is unknown")).unwrap();
    let sent = raw.sent();
    assert!(sent.contains("NetStream.Publish.Unauthorized") && sent.contains("the key is unknown"));
    assert_eq!(raw.session.poll_timeout(), None);
}

#[test]
fn commands_out_of_order_are_refused_without_harm() {
    for (name, first, words) in [
        ("publish before connect", vec![], "publish came before connect"),
        ("publish before createStream", vec!["connect"], "publish came before createStream"),
        ("connect twice", vec!["connect", "connect"], "connected already"),
    ] {
        let mut raw = Raw::new();
        for name in first {
            let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
            raw.send(&command(vec![text(name), Amf0Value::Number(1.0), object])).unwrap();
        }
        raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
        assert!(raw.sent().contains(words), "{name}");
        assert!(raw.events().is_empty());
    }
    let mut raw = Raw::publishing();
    raw.sent();
    raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
    assert!(raw.sent().contains("this connection publishes already"));
    raw.send(&command(vec![text("play"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
    assert!(raw.sent().contains("NetStream.Play.Failed") && raw.session.is_closed());
}

#[test]
fn a_publisher_may_stop_and_begin_again_on_one_connection() {
    let mut raw = Raw::configured();
    raw.send(&command(vec![text("deleteStream"), Amf0Value::Number(5.0), Amf0Value::Null, Amf0Value::Number(1.0)]))
        .unwrap();
    assert!(matches!(raw.events()[..], [Event::Unpublished]));
    raw.send(&message(6, 40, 9, &picture(true, 0, 10, 0))).unwrap();
    assert!(raw.events().is_empty(), "media between is ignored");
    raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
    assert!(matches!(raw.events()[..], [Event::PublishRequested(_)]));
}

#[test]
fn nothing_is_read_while_the_decision_is_pending() {
    let mut raw = Raw::connected();
    let mut input = command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")]);
    let media = message(6, 0, 9, &avc_config());
    input.extend_from_slice(&media);
    raw.send(&input).unwrap();
    assert_eq!(raw.input.len(), media.len());
    assert!(raw.session.wants_input(raw.input.len()) && !raw.session.wants_input(UNREAD_HINT));
    assert_eq!(raw.events().len(), 1);
    raw.session.accept(raw.now).unwrap();
    raw.send(&[]).unwrap();
    assert!(matches!(raw.events()[..], [Event::Track(_)]));
}

#[test]
fn acknowledgements_carry_the_running_total() {
    let acks = |sent: &[u8]| -> Vec<u32> {
        let mut decoder = chunk::Decoder::default();
        decoder.set_chunk_size(4_096).unwrap();
        let (mut rest, mut totals) = (sent, vec![]);
        while let Some(piece) = decoder.next(&mut rest).unwrap() {
            if piece.header.type_id == 3 {
                totals.push(u32::from_be_bytes(piece.data.try_into().unwrap()));
            }
        }
        totals
    };
    for window in [0, 1, 1_100] {
        let mut raw = Raw::configured();
        raw.sent();
        raw.send(&message(2, 0, 5, &u32::to_be_bytes(window))).unwrap();
        let mut sent = Vec::new();
        for n in 0..6 {
            raw.send(&message(4, n * 21, 8, &aac_frame(600))).unwrap();
            while let Some(bytes) = raw.session.poll_transmit() {
                sent.extend_from_slice(&bytes);
            }
        }
        let totals = acks(&sent);
        assert!((3..=4).contains(&totals.len()), "{window}: {totals:?}");
        assert!(totals[0] > 3_073 && totals.windows(2).all(|pair| pair[1] - pair[0] >= 1_024), "{window}: {totals:?}");
    }
}
