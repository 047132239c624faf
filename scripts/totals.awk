# Sums the outcome of `cargo test`, read from its output, into one line:
#   N passed, N failed, N skipped
#
# A test program that dies prints no result of its own, so cargo's exit status is given as
# `-v status=N`: when it is not 0 though no test failed, that counts as one failure. Not a single
# test is a failure too. The exit status is 0 only when nothing failed.

/^test result: / {
    for (field = 2; field <= NF; field++) {
        if ($field == "passed;") passed += $(field - 1)
        if ($field == "failed;") failed += $(field - 1)
        if ($field == "ignored;") skipped += $(field - 1)
    }
}

END {
    if (failed == 0 && (status != 0 || passed == 0)) failed = 1
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit (failed > 0)
}
