-- The view that monitoring reads. It is loaded behind the function that it is made of.

create view eram_metrics as
select
    metrics.name,
    metrics.type,
    metrics.help,
    metrics.labels,
    metrics.value
from eram_metrics() as metrics;

comment on view eram_metrics is
    'What is measured, one sample per row, named and labelled as Prometheus wants it; names that '
    'end in _total are counters.';
