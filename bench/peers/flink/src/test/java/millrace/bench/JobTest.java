package millrace.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class JobTest {
    /** A job of the workload and a query give what is known, and their result is a file as flowbench reads it. */
    @Test
    void jobs(@TempDir Path dir) throws Exception {
        try (Cluster cluster = new Cluster(1)) {
            for (String name : List.of("B10k", "nexmark/q5")) {
                Scenario s = Main.find(List.of(name)).get(0);
                Scenario.Known k = s.known().get(name.equals("B10k") ? 1 : 0);
                Scenario.Setup setup = new Scenario.Setup(k.events(), k.rate(), 1, false, true);
                Probe p = Probe.next();
                Cluster.Checkpoints c = cluster.run(s.checkpoints(), env -> s.build(env, setup));
                assertNull(s.problem(setup, p));
                ResultFile.write(dir, new ResultFile.Result("flink/p1/" + name, s.about(), new ResultFile.Settings(0, 0, 0, k.events(), 1), List.of(ResultFile.Run.of(k.events(), p, c)), "test"));
            }
        }
        JsonNode r = new ObjectMapper().readTree(dir.resolve("flink-p1-nexmark-q5.json").toFile());
        assertEquals("flink/p1/nexmark/q5", r.get("scenario").asText());
        assertTrue(r.get("runs").get(0).get("cpu_us_per_event").asDouble() > 0);
        assertTrue(r.get("machine").get("memory_bytes").asLong() > 0);
    }
}
