"""A Grafana dashboard and Prometheus alert rules, made from the definitions of the metrics.

queries    PromQL over a metric, which knows its labels
alerts     what somebody should look at
dashboard  what there is to see
"""
