package millrace.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.runtime.checkpoint.CheckpointStatsSnapshot;
import org.apache.flink.runtime.jobgraph.JobGraph;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** One Flink in this process, which runs job after job. */
final class Cluster implements AutoCloseable {
    private final MiniCluster flink;
    private final Path checkpoints;
    private final int parallelism;

    Cluster(int parallelism) throws Exception {
        this.parallelism = parallelism;
        checkpoints = Files.createTempDirectory("flink-checkpoints");
        Configuration c = new Configuration();
        c.set(RestOptions.BIND_PORT, "0");
        c.set(RestOptions.BIND_ADDRESS, "127.0.0.1");
        c.set(RestOptions.ADDRESS, "127.0.0.1");
        flink = new MiniCluster(new MiniClusterConfiguration.Builder()
                .setConfiguration(c).setNumTaskManagers(1).setNumSlotsPerTaskManager(parallelism).build());
        flink.start();
    }

    /** What checkpoints of a run came to. */
    record Checkpoints(long n, long bytes, long nanos) {}

    /** Runs a job that build puts into an environment, and says what its checkpoints came to. */
    Checkpoints run(boolean withCheckpoints, Consumer<StreamExecutionEnvironment> build) throws Exception {
        Configuration c = new Configuration();
        c.set(PipelineOptions.OBJECT_REUSE, true);
        c.set(PipelineOptions.GENERIC_TYPES, false); // a job that would need Kryo fails
        c.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        c.set(RestartStrategyOptions.RESTART_STRATEGY, "none");
        if (withCheckpoints) {
            c.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofSeconds(1));
            c.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
            c.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, checkpoints.toUri().toString());
        }
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(parallelism, c);
        build.accept(env);
        JobGraph job = env.getStreamGraph().getJobGraph();
        flink.executeJobBlocking(job);
        CheckpointStatsSnapshot stats = flink.getExecutionGraph(job.getJobID()).get().getCheckpointStatsSnapshot();
        if (stats == null) {
            return new Checkpoints(0, 0, 0);
        }
        var all = stats.getSummaryStats();
        return new Checkpoints(stats.getCounts().getNumberOfCompletedCheckpoints(), all.getStateSizeStats().getSum(), all.getEndToEndDurationStats().getSum() * 1_000_000);
    }

    @Override
    public void close() throws Exception {
        flink.close();
        try (Stream<Path> all = Files.walk(checkpoints)) {
            for (Path p : all.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(p);
            }
        }
    }
}
