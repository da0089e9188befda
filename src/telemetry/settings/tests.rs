//! Variables as they are meant, and those that cannot be understood.

use super::*;
use proptest::prelude::*;

/// Returns the settings by `variables`, written `NAME=value`, and the number of warnings.
fn read(variables: &[&str]) -> (Option<Settings>, usize) {
    let variable = |name: &str| {
        variables.iter().find_map(|one| {
            let (known, value) = one.split_once('=')?;
            (known == name).then(|| value.to_owned())
        })
    };
    let (settings, warnings) = Settings::read(&variable);
    (settings, warnings.len())
}

/// Returns where traces go.
fn traces_to(variables: &[&str]) -> Option<String> {
    Some(read(variables).0?.traces?.to.address.to_string())
}

#[test]
fn nothing_is_sent_unless_it_is_asked_for() {
    for variables in [
        &[][..],
        &["OTEL_SERVICE_NAME=a"],
        &["OTEL_EXPORTER_OTLP_ENDPOINT= "],
        &["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://a"],
        &["OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"],
        &["OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"],
        &["OTEL_SDK_DISABLED=TRUE", "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp"],
    ] {
        let (settings, warnings) = read(variables);
        assert!(settings.is_none() && warnings == 0, "{variables:?}");
    }
}

#[test]
fn addresses_are_those_of_the_specification() {
    let grpc = "OTEL_EXPORTER_OTLP_PROTOCOL=grpc";
    let call = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    for (variables, address) in [
        (&["OTEL_TRACES_EXPORTER=otlp"][..], "http://localhost:4318/v1/traces".to_owned()),
        (&["OTEL_TRACES_EXPORTER=otlp", grpc], format!("http://localhost:4317/{call}")),
        (&["OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1"], "http://a:1/v1/traces".to_owned()),
        (&["OTEL_EXPORTER_OTLP_ENDPOINT=https://a/b/"], "https://a/b/v1/traces".to_owned()),
        (&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://a/b"], "http://a/b".to_owned()),
        (&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://a"], "http://a/".to_owned()),
        (
            &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://a/b", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c"],
            "http://a/b".to_owned(),
        ),
        (&["OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1/ignored", grpc], format!("http://a:1/{call}")),
        (&["OTEL_EXPORTER_OTLP_ENDPOINT=a:1", grpc], format!("https://a:1/{call}")),
        (
            &["OTEL_EXPORTER_OTLP_ENDPOINT=a:1", grpc, "OTEL_EXPORTER_OTLP_INSECURE=true"],
            format!("http://a:1/{call}"),
        ),
    ] {
        assert_eq!(traces_to(variables), Some(address), "{variables:?}");
    }
}

#[test]
fn what_cannot_be_understood_is_as_if_it_were_not_there() {
    let on = "OTEL_TRACES_EXPORTER=otlp";
    for wrong in [
        "OTEL_EXPORTER_OTLP_ENDPOINT=localhost",
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
        "OTEL_EXPORTER_OTLP_HEADERS=secret",
        "OTEL_EXPORTER_OTLP_TIMEOUT=soon",
        "OTEL_EXPORTER_OTLP_TIMEOUT=-1",
        "OTEL_EXPORTER_OTLP_TIMEOUT=99999999999999999999",
        "OTEL_EXPORTER_OTLP_COMPRESSION=zip",
        "OTEL_EXPORTER_OTLP_CERTIFICATE=/no/such/file",
        "OTEL_BSP_MAX_QUEUE_SIZE=0",
        "OTEL_BSP_SCHEDULE_DELAY=x",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4096",
        "OTEL_TRACES_SAMPLER=sometimes",
        "OTEL_RESOURCE_ATTRIBUTES=a",
        "OTEL_PROPAGATORS=b3,tracecontext",
        "OTEL_SDK_DISABLED=perhaps",
        "OTEL_METRICS_EXPORTER=prometheus",
    ] {
        let (settings, warnings) = read(&[on, wrong]);
        let traces = settings.unwrap().traces.unwrap();
        assert_eq!(warnings, 1, "{wrong}");
        assert_eq!(traces.to.address, "http://localhost:4318/v1/traces");
        assert_eq!((traces.to.within, traces.pause), (Duration::from_secs(10), Duration::from_secs(5)));
        assert!(matches!(traces.sampling.root, Sampler::AlwaysOn) && traces.sampling.by_parent);
        assert!(traces.most_at_once <= traces.most_waiting && traces.most_waiting == 2048);
    }
    assert_eq!(
        traces_to(&["OTEL_EXPORTER_OTLP_ENDPOINT=localhost"]),
        None,
        "nobody asked for the usual place"
    );
    assert_eq!(traces_to(&["OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"]), None);
}

#[test]
fn the_values_of_one_signal_come_before_those_of_all() {
    let (settings, warnings) = read(&[
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://a",
        "OTEL_METRICS_EXPORTER=otlp",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc",
        "OTEL_EXPORTER_OTLP_HEADERS=key=1",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS=key=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT=100",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=200",
        "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=none",
        "OTEL_METRIC_EXPORT_INTERVAL=7000",
    ]);
    let Settings { traces, metrics, .. } = settings.unwrap();
    let (traces, metrics) = (traces.unwrap(), metrics.unwrap());
    let of =
        |to: &Destination| (to.protocol, to.headers[0].1.to_str().unwrap().to_owned(), to.within, to.gzip);
    assert_eq!(of(&traces.to), (Wire::Http, "1".to_owned(), Duration::from_millis(200), false));
    assert_eq!(of(&metrics.to), (Wire::Grpc, "2".to_owned(), Duration::from_millis(100), true));
    assert_eq!((metrics.interval, warnings), (Duration::from_secs(7), 0));
    assert_eq!(traces.to.to_string(), "http://a/v1/traces by HTTP");
    assert_eq!(metrics.to.to_string(), "http://a by gRPC");
}

#[test]
fn what_does_not_go_together_is_told_of() {
    let on = "OTEL_TRACES_EXPORTER=otlp";
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("pem");
    std::fs::write(&file, "").unwrap();
    let named = |name: &str| format!("OTEL_EXPORTER_OTLP_{name}={}", file.display());
    let (certificate, key) = (named("CLIENT_CERTIFICATE"), named("CLIENT_KEY"));
    for (variables, expected) in [
        (&[on, &certificate, &key][..], (true, 0)),
        (&[on, &certificate], (false, 1)),
        (&[on, &key], (false, 1)),
        (&[on], (false, 0)),
    ] {
        let (settings, warnings) = read(variables);
        assert_eq!(
            (settings.unwrap().traces.unwrap().to.identity.is_some(), warnings),
            expected,
            "{variables:?}"
        );
    }
    // A short queue alone makes short messages.
    let (settings, warnings) = read(&[on, "OTEL_BSP_MAX_QUEUE_SIZE=100"]);
    assert_eq!((settings.unwrap().traces.unwrap().most_at_once, warnings), (100, 0));
}

#[test]
fn samplers_have_their_share() {
    let sampling = |sampler: &str, share: &str| {
        let (sampler, share) =
            (format!("OTEL_TRACES_SAMPLER={sampler}"), format!("OTEL_TRACES_SAMPLER_ARG={share}"));
        let (settings, warnings) = read(&["OTEL_TRACES_EXPORTER=otlp", &sampler, &share]);
        (settings.unwrap().traces.unwrap().sampling, warnings)
    };
    let share = |sampling: &Sampling| {
        if let Sampler::TraceIdRatioBased(share) = sampling.root { Some(share) } else { None }
    };
    let (quarter, warnings) = sampling("parentbased_traceidratio", "0.25");
    assert_eq!((share(&quarter), quarter.by_parent, warnings), (Some(0.25), true, 0));
    let (all, warnings) = sampling("traceidratio", "2");
    assert_eq!((share(&all), all.by_parent, warnings), (Some(1.0), false, 1));
    let (none, warnings) = sampling("always_off", "");
    assert!(matches!(none.root, Sampler::AlwaysOff) && !none.by_parent && warnings == 0);
}

#[test]
fn a_server_says_who_it_is() {
    let resource =
        |variables: &[&str]| read(&[&["OTEL_TRACES_EXPORTER=otlp"], variables].concat()).0.unwrap().resource;
    let of = |resource: &[(String, String)], key: &str| {
        let values: Vec<_> =
            resource.iter().filter(|(known, _)| known == key).map(|(_, value)| value).collect();
        assert_eq!(values.len(), 1, "{key}");
        values[0].clone()
    };
    let plain = resource(&[]);
    assert_eq!(of(&plain, "service.name"), "servable");
    let told = ["OTEL_RESOURCE_ATTRIBUTES=service.name=a,zone=b%2Cc,service.version=7"];
    let named = resource(&told);
    assert_eq!(
        [of(&named, "service.name"), of(&named, "zone"), of(&named, "service.version")],
        ["a", "b,c", "7"]
    );
    assert_eq!(of(&resource(&[told[0], "OTEL_SERVICE_NAME=d"]), "service.name"), "d");
}

#[test]
fn no_key_of_a_resource_is_twice_and_runs_differ() {
    let resource =
        |given: &str| read(&["OTEL_TRACES_EXPORTER=otlp", &format!("OTEL_RESOURCE_ATTRIBUTES={given}")]).0;
    let of = |given: &str, key: &str| {
        let resource = resource(given).unwrap().resource;
        resource.into_iter().filter(|(known, _)| known == key).map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(of("a=1,b=3,a=2", "a"), ["2"]);
    let [first, second] = [(); 2].map(|()| of("", "service.instance.id").pop().unwrap());
    let parts: Vec<_> = first.split('-').map(str::len).collect();
    assert_eq!((parts, &first[14..15]), (vec![8, 4, 4, 4, 12], "4"));
    assert!(["8", "9", "a", "b"].contains(&&first[19..20]) && first != second, "{first} {second}");
    assert_eq!(of("service.instance.id=me", "service.instance.id"), ["me"]);
}

#[test]
fn words_are_taken_in_any_case() {
    let (settings, warnings) = read(&[
        "OTEL_TRACES_EXPORTER=OTLP",
        "OTEL_METRICS_EXPORTER=None",
        "OTEL_EXPORTER_OTLP_PROTOCOL=GRPC",
        "OTEL_EXPORTER_OTLP_COMPRESSION=Gzip",
        "OTEL_TRACES_SAMPLER=ParentBased_ALWAYS_OFF",
        "OTEL_PROPAGATORS=TraceContext",
    ]);
    let Settings { traces, metrics, .. } = settings.unwrap();
    let TraceSettings { to, sampling, .. } = traces.unwrap();
    assert!(metrics.is_none() && warnings == 0);
    assert_eq!((to.protocol, to.gzip), (Wire::Grpc, true));
    assert!(matches!(sampling.root, Sampler::AlwaysOff) && sampling.by_parent && sampling.takes_parent);
}

#[test]
fn a_timeout_of_zero_is_no_limit() {
    let traces = |variables: &[&str]| {
        let (settings, warnings) = read(&[&["OTEL_TRACES_EXPORTER=otlp"], variables].concat());
        assert_eq!(warnings, 0);
        settings.unwrap().traces.unwrap()
    };
    let [one, other] = ["OTEL_EXPORTER_OTLP_TIMEOUT=0", "OTEL_BSP_EXPORT_TIMEOUT=0"];
    assert_eq!(traces(&[one]).to.within, Duration::from_secs(30), "the other's");
    assert_eq!(traces(&[other]).to.within, Duration::from_secs(10));
    assert!(traces(&[one, other]).to.within > Duration::from_secs(300 * 24 * 3600));
    assert_eq!(traces(&["OTEL_BSP_SCHEDULE_DELAY=0"]).pause, Duration::ZERO);
}

proptest! {
    #[test]
    fn any_values_start_a_server(
        values in proptest::collection::vec((0usize..NAMES.len(), "[ -~]{0,24}"), 0..6)
    ) {
        let variable = |name: &str| {
            values.iter().find(|(index, _)| NAMES[*index] == name).map(|(_, value)| value.clone())
        };
        let (_, warnings) = Settings::read(&variable);
        prop_assert!(warnings.len() <= 200);
    }
}

const NAMES: &[&str] = &[
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_PROPAGATORS",
    "OTEL_BSP_MAX_QUEUE_SIZE",
];
