package millrace.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.nio.charset.StandardCharsets;
import millrace.bench.nexmark.Expected;
import org.junit.jupiter.api.Test;

/** The events are those of the Go side. */
class GeneratorTest {
    @Test
    void eventsOfTheWorkload() {
        Event e = new Workload.Generator(Workload.A).next(0);
        assertEquals("dev-0008833 1699999980000 84.276123046875 48.09112548828125 0", e.device + " " + e.ts + " " + e.temperature + " " + e.humidity + " " + e.seq);
        // All of them, by the sum of job A.
        Workload.Generator g = new Workload.Generator(Workload.A);
        double sum = 0;
        long out = 0;
        for (long i = 0; i < Workload.N; i++) {
            g.fill(i, e);
            if (e.humidity < 50) {
                sum += (e.temperature * 1.8 + 32) * 0.5 + e.humidity * 0.1;
                out++;
            }
        }
        assertNull(Workload.A.problem(Workload.N, new Workload.Result(out, sum)));
    }

    @Test
    void payloads() {
        Workload.Payloads p = new Workload.Payloads(Workload.F);
        assertEquals("{\"deviceId\":\"dev-0008833\",\"ts\":1699999980000,\"temperature\":84.28,\"humidity\":53.28,\"fw\":\"1.4\",\"seq\":1000000000}",
                new String(p.make(0), StandardCharsets.US_ASCII));
        assertEquals("{\"deviceId\":\"dev-0008833\",\"ts\":1699999986553,\"temperature\":84.28,\"humidity\":53.28,\"fw\":\"1.4\",\"seq\":1000065536}",
                new String(p.make(1 << 16), StandardCharsets.US_ASCII));
    }

    @Test
    void eventsOfNexmark() {
        for (Expected x : Expected.all()) {
            assertEquals(x.generator(), x.generated(), "seed " + x.seed() + ", rate " + x.rate() + ", " + x.events() + " events");
        }
    }
}
