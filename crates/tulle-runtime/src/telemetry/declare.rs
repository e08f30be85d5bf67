//! The way to declare a group of series: names, help and typed access in one place.

/// Declares a group of series and a type with one method for each of them.
///
/// ```
/// use tulle_runtime::telemetry::{BUCKETS, Dialect, Registry};
///
/// tulle_runtime::metrics! {
///     /// Of one kettle.
///     pub struct Kettle(Tulle, ["kettle"]) {
///         counter boiled = "tulle_kettle_boiled_total", "How often it boiled.";
///         counter hot = "tulle_kettle_drinks_total" ["drink=\"tea\""], "Cups made.";
///         gauge litres = "tulle_kettle_litres", "What is in it.";
///         histogram seconds(BUCKETS) = "tulle_kettle_seconds", "Time to boil.";
///     }
/// }
///
/// let registry = Registry::new(&[]);
/// let kettle = Kettle::new(&registry.local(), &["red"]);
/// kettle.boiled().inc();
/// kettle.seconds().observe(90.0);
/// assert!(registry.render().contains("tulle_kettle_boiled_total{kettle=\"red\"} 1\n"));
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$doc:meta])*
        $visibility:vis struct $type:ident($dialect:ident, [$($label:literal),*]) {
            $($kind:ident $method:ident $(($bounds:expr))? =
                $name:literal $([$fixed:literal])?, $help:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        $visibility struct $type($crate::telemetry::Series);

        const _: () = {
            #[expect(non_camel_case_types, reason = "one for each method, by its name")]
            #[derive(Clone, Copy)]
            enum Index { $($method,)* }

            static GROUP: $crate::telemetry::Group = $crate::telemetry::Group {
                dialect: $crate::telemetry::Dialect::$dialect,
                labels: &[$($label),*],
                families: &[$($crate::telemetry::Family {
                    name: $name,
                    help: $help,
                    fixed: concat!($($fixed)?),
                    kind: $crate::metrics!(@kind $kind $(($bounds))?),
                },)*],
            };

            #[allow(dead_code, reason = "a group may be read by name only")]
            impl $type {
                /// What the series are called.
                $visibility const GROUP: &'static $crate::telemetry::Group = &GROUP;

                /// The series with these values of the labels.
                #[must_use]
                $visibility fn new(local: &$crate::telemetry::Local, values: &[&str]) -> Self {
                    Self(local.series(Self::GROUP, values))
                }

                /// The typed view of series of [`GROUP`](Self::GROUP).
                #[must_use]
                $visibility fn of(series: $crate::telemetry::Series) -> Self {
                    Self(series)
                }

                $($crate::metrics!(@method $visibility, $help $kind $method $(($bounds))?);)*
            }
        };
    };
    (@kind counter) => { $crate::telemetry::Kind::Counter };
    (@kind gauge) => { $crate::telemetry::Kind::Gauge };
    (@kind histogram ($bounds:expr)) => { $crate::telemetry::Kind::Histogram($bounds) };
    (@method $visibility:vis, $help:literal counter $method:ident) => {
        #[doc = $help]
        #[inline]
        #[must_use]
        $visibility fn $method(&self) -> $crate::telemetry::Counter<'_> {
            self.0.counter(
                const { $crate::telemetry::offset(GROUP.families, Index::$method as usize) },
            )
        }
    };
    (@method $visibility:vis, $help:literal gauge $method:ident) => {
        #[doc = $help]
        #[inline]
        #[must_use]
        $visibility fn $method(&self) -> $crate::telemetry::Gauge<'_> {
            self.0.gauge(
                const { $crate::telemetry::offset(GROUP.families, Index::$method as usize) },
            )
        }
    };
    (@method $visibility:vis, $help:literal histogram $method:ident ($bounds:expr)) => {
        #[doc = $help]
        #[inline]
        #[must_use]
        $visibility fn $method(&self) -> $crate::telemetry::Histogram<'_> {
            self.0.histogram(
                const { $crate::telemetry::offset(GROUP.families, Index::$method as usize) },
                $bounds,
            )
        }
    };
}
