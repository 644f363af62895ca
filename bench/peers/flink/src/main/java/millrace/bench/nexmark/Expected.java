package millrace.bench.nexmark;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;

/** What Millrace's queries give of some events: bench/nexmark/testdata/expected.json. */
public record Expected(long seed, double rate, long events, String generator, Map<String, Result> queries) {
    /** How many rows, and the sum of their checksums. */
    public record Result(long count, String checksum) {}

    /** All sets, the smallest first. */
    public static List<Expected> all() {
        try (InputStream in = Expected.class.getResourceAsStream("/expected.json")) {
            return List.of(new ObjectMapper().readValue(in, Expected[].class));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The chain of the checksums of all events, as this side makes them. */
    public String generated() {
        Generator g = new Generator(seed, rate);
        NexmarkEvent e = new NexmarkEvent();
        e.bid = new NexmarkEvent.Bid();
        long sum = 0;
        for (long i = 0; i < events; i++) {
            g.fill(i, e);
            sum = sum * 31 + e.checksum();
        }
        return String.format("%016x", sum);
    }
}
