# Takes the place of the common hook, which collects every module of gevent there is.
