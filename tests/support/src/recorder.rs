//! A recorder that keeps all metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use apikey_runtime::{ApiKeyManager, ApiKeyManagerBuilder};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};

/// A name and its labels, sorted by name.
pub type Series = (String, Vec<(String, String)>);

/// Keeps all metrics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    counters: BTreeMap<Series, Arc<Count>>,
    gauges: BTreeMap<Series, Arc<Level>>,
    histograms: BTreeMap<Series, Arc<Values>>,
    described: BTreeMap<String, String>,
    lookups: usize,
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

#[derive(Debug, Default)]
struct Level(Mutex<f64>);

#[derive(Debug, Default)]
struct Values(Mutex<Vec<f64>>);

impl Recorder {
    /// Starts a manager that reports its metrics to this recorder only.
    pub async fn start(&self, builder: ApiKeyManagerBuilder) -> ApiKeyManager {
        let _here = metrics::set_default_local_recorder(self);
        builder.start().await.unwrap()
    }

    /// Returns the value of a counter; 0 if it was never registered.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let kept = self.0.lock().unwrap();
        let count = kept.counters.get(&series(name, labels));
        count.map_or(0, |count| count.0.load(SeqCst))
    }

    /// Returns all counters of this name that are not 0, by the value of the label.
    pub fn counters(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let kept = self.0.lock().unwrap();
        let mut counts = BTreeMap::new();
        for ((own, labels), count) in &kept.counters {
            let value = labels.iter().find(|(key, _)| key == label);
            let count = count.0.load(SeqCst);
            if let (true, Some((_, value)), 1..) = (own == name, value, count) {
                *counts.entry(value.clone()).or_default() += count;
            }
        }
        counts
    }

    /// Returns the value of the gauge, if it exists.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        let kept = self.0.lock().unwrap();
        let level = kept.gauges.get(&series(name, &[]))?;
        Some(*level.0.lock().unwrap())
    }

    /// Returns all values of the histogram.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let kept = self.0.lock().unwrap();
        let values = kept.histograms.get(&series(name, labels));
        values.map_or_else(Vec::new, |values| values.0.lock().unwrap().clone())
    }

    /// Returns all series that were registered.
    pub fn all(&self) -> Vec<Series> {
        let kept = self.0.lock().unwrap();
        let series = kept.counters.keys().chain(kept.gauges.keys());
        series.chain(kept.histograms.keys()).cloned().collect()
    }

    /// Returns how often a series was looked up.
    pub fn lookups(&self) -> usize {
        self.0.lock().unwrap().lookups
    }

    /// Returns the descriptions by name.
    pub fn described(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap().described.clone()
    }

    fn describe(&self, name: KeyName, text: SharedString) {
        let mut kept = self.0.lock().unwrap();
        kept.described
            .insert(name.as_str().to_owned(), text.into_owned());
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(name, text);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(name, text);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(name, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut kept = self.0.lock().unwrap();
        kept.lookups += 1;
        Counter::from_arc(Arc::clone(kept.counters.entry(series_of(key)).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut kept = self.0.lock().unwrap();
        kept.lookups += 1;
        Gauge::from_arc(Arc::clone(kept.gauges.entry(series_of(key)).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut kept = self.0.lock().unwrap();
        kept.lookups += 1;
        let values = kept.histograms.entry(series_of(key)).or_default();
        Histogram::from_arc(Arc::clone(values))
    }
}

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, SeqCst);
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        *self.0.lock().unwrap() += value;
    }

    fn decrement(&self, value: f64) {
        *self.0.lock().unwrap() -= value;
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

fn series(name: &str, labels: &[(&str, &str)]) -> Series {
    let mut labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    labels.sort();
    (name.to_owned(), labels)
}

fn series_of(key: &Key) -> Series {
    let labels: Vec<_> = key
        .labels()
        .map(|label| (label.key(), label.value()))
        .collect();
    series(key.name(), &labels)
}
