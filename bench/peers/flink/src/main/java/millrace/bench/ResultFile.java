package millrace.bench;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import org.apache.flink.runtime.util.EnvironmentInformation;

/** The files of bench/harness: flowbench compare and report read them. */
final class ResultFile {
    private ResultFile() {}

    record Result(String scenario, String about, String at, Settings settings, Machine machine, List<Run> runs, String command) {
        Result(String scenario, String about, Settings settings, List<Run> runs, String command) {
            this(scenario, about, Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(), settings, Machine.here(), runs, command);
        }
    }

    record Settings(double rate, @JsonProperty("warm_up_ns") long warmUp, @JsonProperty("duration_ns") long duration, long events, int runs) {}

    record Run(long events, long out, double seconds, @JsonProperty("events_per_second") double perSecond, @JsonProperty("cpu_us_per_event") double cpu,
            @JsonProperty("allocs_per_event") double allocs, @JsonProperty("bytes_per_event") double bytes, @JsonProperty("gc_share") double gc,
            @JsonProperty("peak_rss_bytes") long rss, long lost, long repeats, Epochs epochs) {
        /** What a run used, by the event. Java does not count allocations, only their bytes. */
        static Run of(long events, Probe p, Cluster.Checkpoints c) {
            Probe.Usage u = p.used();
            double seconds = u.wall() / 1e9;
            return new Run(events, p.out(), seconds, events / seconds, u.cpu() / 1e3 / events, 0, (double) u.bytes() / events,
                    u.cpu() > 0 ? (double) u.gc() / u.cpu() : 0, peakRSS(), 0, 0, new Epochs(c.n(), 0, 0, c.nanos(), c.bytes()));
        }

        private static long peakRSS() {
            return kilobytes(field(Path.of("/proc/self/status"), "VmHWM"));
        }
    }

    record Epochs(long n, @JsonProperty("pause_ns") long pause, @JsonProperty("longest_pause_ns") long longestPause, @JsonProperty("write_ns") long write, long bytes) {}

    /** The field for Go's version says which Java and Flink it was, that for GOMAXPROCS how many processors Java uses. */
    @JsonInclude(JsonInclude.Include.ALWAYS)
    record Machine(String cpu, int cores, @JsonProperty("gomaxprocs") int procs, @JsonProperty("memory_bytes") long memory, String os, String go, String commit, double load) {
        static Machine here() {
            String arch = System.getProperty("os.arch");
            int n = Runtime.getRuntime().availableProcessors();
            return new Machine(field(Path.of("/proc/cpuinfo"), "model name"), n, n, kilobytes(field(Path.of("/proc/meminfo"), "MemTotal")),
                    System.getProperty("os.name").toLowerCase() + "/" + (arch.equals("aarch64") ? "arm64" : arch),
                    "Java " + Runtime.version() + " (" + collector() + ", heap " + (Runtime.getRuntime().maxMemory() >> 20) + " MiB), Flink " + EnvironmentInformation.getVersion(),
                    headCommit(), loadAverage());
        }

        private static String collector() {
            return java.lang.management.ManagementFactory.getGarbageCollectorMXBeans().get(0).getName().replaceAll(" .*", "");
        }

        private static double loadAverage() {
            try {
                return Double.parseDouble(Files.readString(Path.of("/proc/loadavg")).split(" ")[0]);
            } catch (IOException e) {
                return 0;
            }
        }

        private static String headCommit() {
            String head = git("rev-parse", "HEAD");
            if (head.isEmpty()) {
                return "unknown";
            }
            return head + (git("status", "--porcelain", "--untracked-files=no").isEmpty() ? "" : " and changes");
        }

        /** The folder of the jar, which lies in the repository. */
        private static File folder() {
            return new File(ResultFile.class.getProtectionDomain().getCodeSource().getLocation().getPath()).getParentFile();
        }

        private static String git(String... args) {
            try {
                var command = new java.util.ArrayList<>(List.of("git"));
                command.addAll(List.of(args));
                Process p = new ProcessBuilder(command).directory(folder()).redirectError(ProcessBuilder.Redirect.DISCARD).start();
                String out = new String(p.getInputStream().readAllBytes()).trim();
                return p.waitFor() == 0 ? out : "";
            } catch (IOException e) {
                return ""; // no git here
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return "";
            }
        }
    }

    private static String field(Path file, String name) {
        try {
            for (String line : Files.readAllLines(file)) {
                int colon = line.indexOf(':');
                if (colon > 0 && line.substring(0, colon).trim().equals(name)) {
                    return line.substring(colon + 1).trim();
                }
            }
        } catch (IOException e) {
            return ""; // no Linux
        }
        return "";
    }

    private static long kilobytes(String s) {
        return s.isEmpty() ? 0 : Long.parseLong(s.replace(" kB", "").trim()) * 1024;
    }

    /** Writes a result into a folder, in a file named after its scenario. */
    static void write(Path dir, Result r) throws IOException {
        Files.createDirectories(dir);
        byte[] json = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT).writeValueAsBytes(r);
        Files.write(dir.resolve(r.scenario.replace('/', '-') + ".json"), json);
    }
}
