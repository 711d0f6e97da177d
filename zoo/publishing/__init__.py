"""The steps of publishing a release; `zoo.release` puts them together."""
